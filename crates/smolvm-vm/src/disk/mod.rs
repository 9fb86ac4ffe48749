//! A VM's own disk, made from the open file of an image without ever writing to that file.
//!
//! [`isolate`] makes it in the cheapest way that the file system, the VMM and the guest's kernel
//! allow; [`share`] opens a file for those who want the guest's writes in the file itself.

mod agent;
mod copy;
mod error;
mod extents;
mod overlay;
mod program;
mod qcow2;
mod reflink;
mod scratch;
mod share;
mod staging;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

pub(crate) use agent::add_agent;
pub use error::DiskError;
pub(crate) use share::share;
use staging::Staging;

/// An image's root file system, open for reading: the descriptor whose content was verified.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Base<'a> {
    /// The disk is made from this. It is neither written to nor is its cursor moved.
    pub(crate) file: &'a File,
    /// What messages call it; it is not opened again.
    pub(crate) path: &'a Path,
}

/// What a disk is to be.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Request {
    /// Its size in bytes, at least that of the base; `None` for the size of the base.
    pub(crate) size: Option<u64>,
    /// The only way to make it; `None` for the first of [`Isolation`]'s that works.
    pub(crate) isolation: Option<Isolation>,
    /// What the VM can do with it.
    pub(crate) capabilities: Capabilities,
}

/// What a VM can do with a disk, which decides how one may be made.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Capabilities {
    /// The VMM reads and writes qcow2 files whose backing file is named on its command line.
    pub(crate) qcow2: bool,
    /// The guest's kernel has overlayfs and ext4.
    pub(crate) overlayfs: bool,
}

/// How a disk is kept apart from its base, in the order in which they are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// A copy that shares its blocks with the base, on file systems that can (btrfs, XFS).
    Reflink,
    /// A qcow2 file that holds what has changed, over the base as its backing file.
    Overlay,
    /// A second, empty disk for what changes, joined with the base by overlayfs in the guest.
    Scratch,
    /// A copy of the data, in which holes stay holes.
    Copy,
}

/// A disk that [`isolate`] has made: all that is needed to attach it, now or at a later start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IsolatedDisk {
    /// How it was made.
    pub(crate) isolation: Isolation,
    /// The size in bytes of the disk that the guest sees, or, with [`Isolation::Scratch`], of the
    /// one for what changes.
    pub(crate) size: u64,
}

/// How a VMM reads the file of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// The bytes of the file are those of the disk.
    Raw,
    /// QEMU's own format.
    Qcow2,
}

/// What a VMM needs the base for, beside the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BaseUse {
    /// Nothing: the disk holds all of it.
    Unused,
    /// It is the qcow2 file's backing file. The qcow2 file does not name it.
    Backing,
    /// It is a disk of its own, read-only and before the other one.
    ReadOnlyDisk,
}

impl Isolation {
    /// All of them, in the order in which they are tried.
    pub(crate) const ORDER: [Self; 4] = [Self::Reflink, Self::Overlay, Self::Scratch, Self::Copy];

    /// The name of the disk's file in the VM's directory.
    pub(crate) fn file_name(self) -> &'static str {
        match self {
            Self::Reflink | Self::Copy => "disk.raw",
            Self::Overlay => "disk.qcow2",
            Self::Scratch => "disk.scratch",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Reflink => "reflink",
            Self::Overlay => "overlay",
            Self::Scratch => "scratch",
            Self::Copy => "copy",
        }
    }

    fn is_within(self, capabilities: Capabilities) -> bool {
        match self {
            Self::Reflink | Self::Copy => true,
            Self::Overlay => capabilities.qcow2,
            Self::Scratch => capabilities.overlayfs,
        }
    }
}

impl IsolatedDisk {
    /// How a VMM reads its file.
    #[cfg(test)]
    pub(crate) fn format(&self) -> Format {
        match self.isolation {
            Isolation::Overlay => Format::Qcow2,
            Isolation::Reflink | Isolation::Scratch | Isolation::Copy => Format::Raw,
        }
    }

    /// What a VMM needs the base for.
    pub(crate) fn base_use(&self) -> BaseUse {
        match self.isolation {
            Isolation::Reflink | Isolation::Copy => BaseUse::Unused,
            Isolation::Overlay => BaseUse::Backing,
            Isolation::Scratch => BaseUse::ReadOnlyDisk,
        }
    }

    /// Where its file is in the VM's `directory`.
    pub(crate) fn path(&self, directory: &Path) -> PathBuf {
        directory.join(self.isolation.file_name())
    }

    /// Opens its file for reading.
    pub(crate) fn open_to_read(&self, directory: &Path) -> Result<File, DiskError> {
        let path = self.path(directory);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::open(&path, flags, rustix::fs::Mode::empty())
            .map(File::from)
            .map_err(|error| DiskError::io("open", &path, error.into()))
    }

    /// Opens its file for a VMM, for reading and writing.
    #[cfg(test)]
    pub(crate) fn open(&self, directory: &Path) -> Result<File, DiskError> {
        let path = self.path(directory);
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::open(&path, flags, rustix::fs::Mode::empty())
            .map(File::from)
            .map_err(|error| DiskError::io("open", &path, error.into()))
    }
}

/// Makes a disk of its own from `base` in the VM's `directory`, in one file that only the user can
/// read and write and that is complete as soon as it has its name.
///
/// Ways that are not possible here are passed over, unless one is asked for. A full disk is an
/// error at once: the ways that are tried later need more room, not less.
pub(crate) fn isolate(
    base: Base<'_>,
    directory: &Path,
    request: &Request,
) -> Result<IsolatedDisk, DiskError> {
    let size = size_of_disk(base, request.size)?;
    let make_one = |isolation: Isolation| -> Result<IsolatedDisk, DiskError> {
        let size = match isolation {
            Isolation::Reflink => {
                reflink::make(base, Staging::create(directory, isolation)?, size).map(|()| size)
            }
            Isolation::Overlay => overlay::make(directory, size).map(|()| size),
            Isolation::Scratch => scratch::make(directory, request.size.unwrap_or(0).max(size)),
            Isolation::Copy => {
                copy::make(base, Staging::create(directory, isolation)?, size).map(|()| size)
            }
        }?;
        Ok(IsolatedDisk { isolation, size })
    };
    if let Some(isolation) = request.isolation {
        if !isolation.is_within(request.capabilities) {
            let reason = "neither the VMM nor the guest's kernel supports it".to_owned();
            return Err(DiskError::Unsupported { isolation: isolation.name(), reason });
        }
        return make_one(isolation);
    }
    for isolation in Isolation::ORDER {
        if !isolation.is_within(request.capabilities) {
            continue;
        }
        match make_one(isolation) {
            Err(error) if error.leaves_other_ways() => {
                log::debug!("{}: no {} disk: {error}", base.path.display(), isolation.name());
            }
            result => return result,
        }
    }
    let reason = "no way to make one works here".to_owned();
    Err(DiskError::Unsupported { isolation: "isolated", reason })
}

/// Makes another file like that of a disk in `directory`, under the same name: one that shares its
/// blocks where that is possible, else a copy in which holes stay holes.
pub(crate) fn duplicate(
    disk: &IsolatedDisk,
    file: Base<'_>,
    directory: &Path,
) -> Result<(), DiskError> {
    let size = extents::length(file)?;
    let staging = || Staging::create(directory, disk.isolation);
    match reflink::make(file, staging()?, size) {
        Err(error) if error.leaves_other_ways() => copy::make(file, staging()?, size),
        result => result,
    }
}

/// The size of a disk in whole sectors.
fn size_of_disk(base: Base<'_>, asked: Option<u64>) -> Result<u64, DiskError> {
    let length = extents::length(base)?;
    if length == 0 {
        return Err(DiskError::Empty { path: base.path.to_owned() });
    }
    let size = match asked {
        Some(size) if size < length => {
            return Err(DiskError::TooSmall { path: base.path.to_owned(), needed: length, size });
        }
        asked => asked.unwrap_or(length),
    };
    let limit = qcow2::MAX_SIZE;
    if size > limit {
        return Err(DiskError::TooLarge { path: base.path.to_owned(), size, limit });
    }
    Ok(size.next_multiple_of(SECTOR))
}

/// The bytes that a disk's size is counted in.
const SECTOR: u64 = 512;
