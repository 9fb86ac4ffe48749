//! The parts of a file that hold data, found without moving the cursor of its descriptor.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd as _;

use rustix::fs::{Mode, OFlags, SeekFrom};
use rustix::io::Errno;

use super::Base;
use super::error::DiskError;

/// The parts of `base` that hold data, in bytes, in order. Where the file system keeps no holes it
/// is one part.
pub(super) fn of(base: Base<'_>) -> Result<Vec<Range<u64>>, DiskError> {
    let length = length(base)?;
    let Some(own) = own_cursor(base.file) else {
        return Ok(std::iter::once(0..length).collect());
    };
    let find = |from: SeekFrom| match rustix::fs::seek(&own, from) {
        Ok(position) => Ok(Some(position)),
        Err(Errno::NXIO) => Ok(None),
        Err(error) => Err(DiskError::io("read", base.path, error.into())),
    };
    let mut extents = Vec::new();
    let mut position = 0;
    while position < length {
        let Some(start) = find(SeekFrom::Data(position))? else { break };
        let end = find(SeekFrom::Hole(start))?.unwrap_or(length).min(length);
        if end <= start {
            break;
        }
        extents.push(start..end);
        position = end;
    }
    Ok(extents)
}

/// The length of the base in bytes.
pub(super) fn length(base: Base<'_>) -> Result<u64, DiskError> {
    base.file.metadata().map(|data| data.len()).map_err(|error| read_error(base, error))
}

pub(super) fn read_error(base: Base<'_>, source: io::Error) -> DiskError {
    DiskError::io("read", base.path, source)
}

/// Another descriptor of the same file with a cursor of its own. The link in `/proc` leads to the
/// open file itself, whatever its path holds by now.
fn own_cursor(file: &File) -> Option<File> {
    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    rustix::fs::open(link, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map(File::from).ok()
}
