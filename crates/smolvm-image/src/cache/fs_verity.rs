//! fs-verity: files whose bytes nobody can change any more, and of which the kernel checks every
//! block that it reads from the disk (<https://docs.kernel.org/filesystems/fsverity.html>).

use std::fs::File;
use std::io;

use composefs_ioctls::fsverity::{
    EnableVerityError, MeasureVerityError, fs_ioc_enable_verity, fs_ioc_measure_verity,
};
use rustix::fs::Mode;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::dir;
use crate::digest::Digest;

/// SHA-256, by its number in `linux/fsverity.h`.
const SHA256: u8 = 1;

/// Bytes of a block: before Linux 6.2 it has to be the size of a page.
const BLOCK: u32 = 4096;

/// What `statfs(2)` calls a file system that a program serves.
const FUSE: u32 = 0x6573_5546;

/// What fs-verity calls the bytes of a file: the digest of a tree of digests, not that of the bytes
/// one after the other. Files that have the same one have the same bytes, and keep them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct VerityDigest(Digest);

impl VerityDigest {
    /// That of an open file, where it has fs-verity; in constant time.
    ///
    /// Reads that bring anything else fail with `EIO`. A program that serves a file system could
    /// claim that as it likes: only what the kernel itself says counts.
    pub(crate) fn of(file: &File) -> Option<Self> {
        let digest = fs_ioc_measure_verity::<32>(file, SHA256).ok()?;
        is_of_the_kernel(file).then(|| Self(Digest::from(digest)))
    }
}

/// Whether [`enable`] could do something: this user's own file, without fs-verity, on a file system
/// that has it.
pub(crate) fn could_have(file: &File) -> bool {
    let measured = fs_ioc_measure_verity::<32>(file, SHA256);
    matches!(measured, Err(MeasureVerityError::VerityMissing))
        && rustix::fs::fstat(file).is_ok_and(|stat| dir::is_own(&stat))
        && is_of_the_kernel(file)
}

/// Enables fs-verity for a file that is open for reading alone. That reads all of it, and nobody
/// may have it open for writing. A file that has it already stays as it is.
pub(crate) fn enable(file: &File) -> io::Result<()> {
    match try_enable(file) {
        Err(error) if Errno::from_io_error(&error) == Some(Errno::ACCESS) => {}
        ended => return ended,
    }
    // The kernel asks for the right to write, which the mode of a cached file gives nobody but
    // root. Who is killed in between leaves a file that its owner may write to, if it has no
    // fs-verity yet: it is judged by its bytes.
    let mode = Mode::from_raw_mode(rustix::fs::fstat(file)?.st_mode);
    rustix::fs::fchmod(file, mode | Mode::WUSR)?;
    let enabled = try_enable(file);
    rustix::fs::fchmod(file, mode)?;
    enabled
}

fn try_enable(file: &File) -> io::Result<()> {
    match fs_ioc_enable_verity(file, SHA256, BLOCK) {
        Ok(()) | Err(EnableVerityError::AlreadyEnabled) => Ok(()),
        Err(EnableVerityError::Io(error)) => Err(error),
        Err(error) => Err(io::Error::other(error)),
    }
}

fn is_of_the_kernel(file: &File) -> bool {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the numbers have 32 bits whatever the width of the field"
    )]
    rustix::fs::fstatfs(file).is_ok_and(|stat| stat.f_type as u32 != FUSE)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// Memory has none, on any kernel.
    #[test]
    fn a_file_in_memory_stays_as_it_is() {
        let temp = tempfile::tempdir_in("/dev/shm").unwrap();
        let path = temp.path().join("file");
        fs_err::File::create(&path).unwrap().write_all(b"bytes").unwrap();
        fs_err::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o400))
            .unwrap();
        let before = fs_err::metadata(&path).unwrap();
        let file = File::open(&path).unwrap();
        assert_eq!(VerityDigest::of(&file), None);
        assert!(!could_have(&file));
        assert!(enable(&file).is_err());
        let after = fs_err::metadata(&path).unwrap();
        assert_eq!(before.permissions(), after.permissions());
        assert_eq!(fs_err::read(&path).unwrap(), b"bytes");
    }
}
