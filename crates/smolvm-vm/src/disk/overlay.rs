//! A qcow2 file for what the guest changes, over the base as its backing file.

use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::error::DiskError;
use super::staging::Staging;
use super::{Isolation, qcow2};

/// Makes an overlay of `size` bytes in which nothing has been changed. The base is given to the
/// VMM beside it; what lies beyond the base's end reads as zeros.
pub(super) fn make(directory: &Path, size: u64) -> Result<(), DiskError> {
    let disk = Staging::create(directory, Isolation::Overlay)?;
    let layout = qcow2::Layout::of(size);
    disk.set_length(layout.file_length())?;
    for (offset, bytes) in layout.written() {
        disk.file()
            .write_all_at(&bytes, offset)
            .map_err(|error| DiskError::write(disk.path(), layout.file_length(), error))?;
    }
    disk.publish()
}
