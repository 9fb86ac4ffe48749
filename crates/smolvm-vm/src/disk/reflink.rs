//! A copy that shares its blocks with the base until one of the two is written to.

use std::path::Path;

use rustix::io::Errno;

use super::error::DiskError;
use super::staging::Staging;
use super::{Base, Isolation};

/// Makes a disk of `size` bytes, not less than the base has.
pub(super) fn make(base: Base<'_>, directory: &Path, size: u64) -> Result<(), DiskError> {
    let disk = Staging::create(directory, Isolation::Reflink)?;
    match rustix::fs::ioctl_ficlone(disk.file(), base.file) {
        Ok(()) => {}
        Err(error @ (Errno::NOSPC | Errno::DQUOT)) => {
            return Err(DiskError::write(disk.path(), 1, error.into()));
        }
        Err(error @ (Errno::IO | Errno::ROFS)) => {
            return Err(DiskError::io("write", disk.path(), error.into()));
        }
        // Which error says "not here" differs between file systems and their versions.
        Err(error) => {
            let reason = format!(
                "the file systems of {} and {} do not share blocks ({error})",
                base.path.display(),
                directory.display()
            );
            return Err(DiskError::Unsupported { isolation: "reflink", reason });
        }
    }
    disk.set_length(size)?;
    disk.publish()
}
