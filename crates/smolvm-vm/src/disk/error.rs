//! [`DiskError`]: why a VM has no disk, by what the user can do about it.

use std::io;
use std::path::{Path, PathBuf};

/// Why a disk could not be made or opened. The message names the file and says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiskError {
    /// The file system of the VM's directory has no room for the disk.
    #[error(
        "not enough room on the disk: {} needs {needed} bytes, {free} are free. Free some, or keep VMs on another file system",
        path.display()
    )]
    StorageFull {
        /// The file that was to be written.
        path: PathBuf,
        /// What it needs, in bytes.
        needed: u64,
        /// What can be had, in bytes.
        free: u64,
    },

    /// The disk is to be smaller than the root file system that it is made from.
    #[error(
        "a disk of {size} bytes cannot hold {}, which has {needed}. Ask for at least that, or leave the size out",
        path.display()
    )]
    TooSmall {
        /// The root file system.
        path: PathBuf,
        /// Its size in bytes.
        needed: u64,
        /// The size that was asked for, in bytes.
        size: u64,
    },

    /// The disk is to be larger than a VMM can use.
    #[error("a disk of {size} bytes for {} is too large; the most is {limit}", path.display())]
    TooLarge {
        /// The root file system.
        path: PathBuf,
        /// The size that was asked for, in bytes.
        size: u64,
        /// The largest size in bytes.
        limit: u64,
    },

    /// There is nothing in the root file system's file.
    #[error("{} is empty or no file; a root file system is needed to make a disk from", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },

    /// A way to make disks that does not work on this host, or not for this VM.
    #[error(
        "cannot make a disk in the way '{isolation}': {reason}. Ask for another way, or leave it to be chosen"
    )]
    Unsupported {
        /// The way: `reflink`, `overlay`, `scratch` or `copy`.
        isolation: &'static str,
        /// Why not.
        reason: String,
    },

    /// A program that makes disks failed.
    #[error("{program} could not make {}: {said}", path.display())]
    Program {
        /// The program.
        program: &'static str,
        /// The file that it was to make.
        path: PathBuf,
        /// What it said, or how it ended.
        said: String,
    },

    /// A cached file is to be written to.
    #[error(
        "{} belongs to an image in a cache, which is never written to. Use an isolated disk, or a copy of the file",
        path.display()
    )]
    Cached {
        /// The file.
        path: PathBuf,
    },

    /// A file that is to be written to is protected from that.
    #[error(
        "{} is read-only, and a shared disk is written to. Make it writable (chmod u+w), or use an isolated disk",
        path.display()
    )]
    ReadOnly {
        /// The file.
        path: PathBuf,
    },

    /// Two VMs that write to one file destroy it.
    #[error(
        "{} is in use by another VM or program. Stop that one, or use an isolated disk",
        path.display()
    )]
    InUse {
        /// The file.
        path: PathBuf,
    },

    /// The root file system has become shorter while it was read.
    #[error("{} was changed while a disk was made from it. Try again when nothing writes to it", path.display())]
    Changed {
        /// The root file system.
        path: PathBuf,
    },

    /// A file could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was being done, such as `read`.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl DiskError {
    pub(super) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), source }
    }

    /// A write to `path` failed that needs `needed` bytes in all.
    pub(super) fn write(path: &Path, needed: u64, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                let free = path.parent().and_then(free_bytes).unwrap_or(0);
                Self::StorageFull { path: path.to_owned(), needed, free }
            }
            _ => Self::io("write", path, source),
        }
    }

    /// Whether another way to make the disk may work although this one did not.
    pub(super) fn leaves_other_ways(&self) -> bool {
        matches!(self, Self::Unsupported { .. } | Self::Program { .. })
    }
}

/// The room in a directory's file system; `None` where it does not tell.
pub(super) fn free_bytes(directory: &Path) -> Option<u64> {
    let space = rustix::fs::statvfs(directory).ok()?;
    space.f_bavail.checked_mul(space.f_frsize)
}
