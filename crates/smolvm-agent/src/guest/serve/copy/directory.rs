//! [`Directory`]: an open directory, in which names are looked up without following links.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata, OpenOptions, ReadDir};
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use crate::sys::file_times;

/// An open directory. Whatever else happens to the tree meanwhile, what is done in it is done in
/// this directory: it is reached through `/proc/self/fd`, and not by its name.
#[derive(Debug)]
pub(super) struct Directory(File);

/// A file under a temporary name, which is removed unless the file is [finished](Self::finish).
#[derive(Debug)]
pub(super) struct NewFile {
    directory: Rc<Directory>,
    temporary: Vec<u8>,
    name: Vec<u8>,
    file: File,
    mode: u32,
    modified: u64,
}

const O_DIRECTORY: i32 = if cfg!(target_arch = "aarch64") { 0o40_000 } else { 0o200_000 };
const O_NOFOLLOW: i32 = if cfg!(target_arch = "aarch64") { 0o100_000 } else { 0o400_000 };
/// So that opening a fifo or a device waits for nobody.
const O_NONBLOCK: i32 = 0o4000;

impl Directory {
    /// Opens the directory at `path`, which may lead through links.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        OpenOptions::new().read(true).custom_flags(O_DIRECTORY).open(path).map(Self)
    }

    /// Opens a directory in it.
    pub(super) fn enter(&self, name: &[u8]) -> io::Result<Self> {
        let flags = O_DIRECTORY | O_NOFOLLOW;
        OpenOptions::new().read(true).custom_flags(flags).open(self.path(name)).map(Self)
    }

    /// Opens a file in it for reading.
    pub(super) fn open_file(&self, name: &[u8]) -> io::Result<File> {
        let flags = O_NOFOLLOW | O_NONBLOCK;
        OpenOptions::new().read(true).custom_flags(flags).open(self.path(name))
    }

    pub(super) fn create_directory(&self, name: &[u8]) -> io::Result<()> {
        fs::create_dir(self.path(name))
    }

    /// Makes a link, in the place of what is there unless that is a directory.
    pub(super) fn replace_by_link(
        &self,
        name: &[u8],
        target: &[u8],
        modified: u64,
    ) -> io::Result<()> {
        let link = |path: &Path| symlink(OsStr::from_bytes(target), path);
        let (temporary, ()) = self.make_temporary(link)?;
        let path = self.path(&temporary);
        let made = file_times::set_of_link(&path, modified);
        made.and_then(|()| fs::rename(&path, self.path(name))).inspect_err(|_| {
            // The error that led here is the one to tell.
            let _ = fs::remove_file(&path);
        })
    }

    /// Makes something under a name that is not in use.
    fn make_temporary<T>(
        &self,
        mut make: impl FnMut(&Path) -> io::Result<T>,
    ) -> io::Result<(Vec<u8>, T)> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        loop {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let name = format!(".smolvm-{}-{number}", std::process::id()).into_bytes();
            match make(&self.path(&name)) {
                // Left behind by an agent that was killed.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                result => return result.map(|made| (name, made)),
            }
        }
    }

    /// What is under the name, if anything is.
    pub(super) fn look(&self, name: &[u8]) -> io::Result<Option<Metadata>> {
        match fs::symlink_metadata(self.path(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            found => found.map(Some),
        }
    }

    pub(super) fn link_target(&self, name: &[u8]) -> io::Result<Vec<u8>> {
        Ok(fs::read_link(self.path(name))?.into_os_string().into_encoded_bytes())
    }

    /// What is in it, in no order.
    pub(super) fn list(&self) -> io::Result<ReadDir> {
        fs::read_dir(format!("/proc/self/fd/{}/.", self.0.as_raw_fd()))
    }

    /// Gives the directory itself its mode and time.
    pub(super) fn set_attributes(&self, mode: u32, modified: u64) -> io::Result<()> {
        set_attributes(&self.0, mode, modified)
    }

    fn path(&self, name: &[u8]) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd())).join(OsStr::from_bytes(name))
    }
}

impl NewFile {
    /// Begins a file that is to have this name in the directory.
    pub(super) fn create(directory: Rc<Directory>, name: &[u8]) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let (temporary, file) = directory.make_temporary(|path| options.open(path))?;
        Ok(Self { directory, temporary, name: name.to_vec(), file, mode: 0o600, modified: 0 })
    }

    /// Has it get this mode, and this time of its last change in seconds since 1970.
    pub(super) fn with_attributes(mut self, mode: u32, modified: u64) -> Self {
        (self.mode, self.modified) = (mode, modified);
        self
    }

    /// Adds to its content.
    pub(super) fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    /// Puts it in the place of what has its name.
    pub(super) fn finish(mut self) -> io::Result<()> {
        set_attributes(&self.file, self.mode, self.modified)?;
        let temporary = self.directory.path(&self.temporary);
        fs::rename(temporary, self.directory.path(&self.name))?;
        self.temporary.clear();
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.temporary.is_empty() {
            // Nobody waits for the result.
            let _ = fs::remove_file(self.directory.path(&self.temporary));
        }
    }
}

/// Gives an open file its mode, and the time when it was changed in seconds since 1970.
fn set_attributes(file: &File, mode: u32, modified: u64) -> io::Result<()> {
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    let modified = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(modified));
    file.set_modified(modified.ok_or(io::ErrorKind::InvalidInput)?)
}
