//! A copy that shares its blocks with the base until one of the two is written to.

use rustix::io::Errno;

use super::Base;
use super::error::DiskError;
use super::staging::Staging;

/// Makes `disk` one of `size` bytes, not less than the base has.
pub(super) fn make(base: Base<'_>, disk: Staging, size: u64) -> Result<(), DiskError> {
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
                disk.path().display()
            );
            return Err(DiskError::Unsupported { isolation: "reflink", reason });
        }
    }
    disk.set_length(size)?;
    disk.publish()
}
