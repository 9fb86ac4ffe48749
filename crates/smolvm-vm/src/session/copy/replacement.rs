//! [`Replacement`]: a file that takes its place at once, when it is whole, and leaves nothing where
//! it never is.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{
    AtFlags, Mode, OFlags, Timespec, Timestamps, fchmod, futimens, openat, renameat, symlinkat,
    unlinkat, utimensat,
};
use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};

/// A file that has a temporary name until it is whole.
pub(super) struct Replacement {
    file: File,
    directory: Arc<OwnedFd>,
    name: OsString,
    temporary: String,
    mode: u32,
    modified: u64,
    is_whole: bool,
}

/// Makes temporary names that nobody can foresee.
pub(super) struct Marks {
    random: u64,
    count: u64,
}

impl Marks {
    pub(super) fn new() -> Result<Self, Errno> {
        let mut random = [0; 8];
        getrandom(&mut random, GetRandomFlags::empty())?;
        Ok(Self { random: u64::from_ne_bytes(random), count: 0 })
    }

    pub(super) fn next(&mut self) -> String {
        self.count += 1;
        format!(".smolvm-copy-{:016x}-{}", self.random, self.count)
    }
}

impl Replacement {
    /// Begins the file `name` of `directory`, under the name `temporary` so far.
    pub(super) fn new(
        directory: Arc<OwnedFd>,
        name: OsString,
        temporary: String,
        mode: u32,
        modified: u64,
    ) -> Result<Self, Errno> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&directory, &temporary, flags, Mode::RUSR | Mode::WUSR)?.into();
        Ok(Self { file, directory, name, temporary, mode, modified, is_whole: false })
    }

    /// Appends to it.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    /// It is whole: it takes its place.
    pub(super) fn finish(mut self) -> Result<(), Errno> {
        fchmod(&self.file, permissions(self.mode))?;
        futimens(&self.file, &times(self.modified))?;
        renameat(&self.directory, &self.temporary, &self.directory, &self.name)?;
        self.is_whole = true;
        Ok(())
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        if !self.is_whole {
            remove(&self.directory, &self.temporary);
        }
    }
}

/// Makes the symbolic link `name` of `directory`, in place of what was there.
pub(super) fn link(
    directory: &OwnedFd,
    name: &OsStr,
    temporary: &str,
    target: &[u8],
    modified: u64,
) -> Result<(), Errno> {
    symlinkat(target, directory, temporary)?;
    // Some file systems keep no times of links.
    let _ = utimensat(directory, temporary, &times(modified), AtFlags::SYMLINK_NOFOLLOW);
    renameat(directory, temporary, directory, name).inspect_err(|_| remove(directory, temporary))
}

/// The permission bits that a file out of a guest may have: none that make who runs it somebody
/// else.
pub(super) fn permissions(mode: u32) -> Mode {
    Mode::from_raw_mode(mode & 0o777)
}

/// The time of a change that was `modified` seconds after 1970.
pub(super) fn times(modified: u64) -> Timestamps {
    /// The end of the year 9999, beyond which programs fail to show a time.
    const LATEST: u64 = 253_402_300_799;
    let seconds = i64::try_from(modified.min(LATEST)).unwrap_or(0);
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

fn remove(directory: &OwnedFd, name: &str) {
    // What cannot be removed cannot be helped; the error that led here is told.
    let _ = unlinkat(directory, name, AtFlags::empty());
}
