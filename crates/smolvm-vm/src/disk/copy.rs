//! A copy of the base's data, in which holes stay holes.

use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use rustix::io::Errno;

use super::error::DiskError;
use super::staging::Staging;
use super::{Base, extents};

/// How much is copied by one call at the most, so that a signal is not kept waiting.
const STEP: usize = 64 << 20;
/// How much is copied through memory at once, where the kernel cannot copy by itself.
const BUFFER: usize = 1 << 20;

/// Makes `disk` one of `size` bytes, not less than the base has.
pub(super) fn make(base: Base<'_>, disk: Staging, size: u64) -> Result<(), DiskError> {
    let extents = extents::of(base)?;
    let needed = extents.iter().map(|extent| extent.end - extent.start).sum();
    disk.require(needed)?;
    disk.set_length(size)?;
    let mut copy = Copy { base, disk: &disk, needed, buffer: Vec::new() };
    for extent in extents {
        let rest = copy.in_kernel(extent)?;
        copy.through_memory(rest)?;
    }
    disk.publish()
}

/// A copy under way.
struct Copy<'a> {
    base: Base<'a>,
    disk: &'a Staging,
    /// What the disk takes in all, in bytes.
    needed: u64,
    /// Empty until it is needed.
    buffer: Vec<u8>,
}

impl Copy<'_> {
    /// Copies as much of `extent` as the kernel can by itself, and returns the rest.
    fn in_kernel(&self, extent: Range<u64>) -> Result<Range<u64>, DiskError> {
        let (mut from, mut to) = (extent.start, extent.start);
        while from < extent.end {
            let step = at_most(STEP, extent.end - from);
            match rustix::fs::copy_file_range(
                self.base.file,
                Some(&mut from),
                self.disk.file(),
                Some(&mut to),
                step,
            ) {
                Ok(1..) | Err(Errno::INTR) => {}
                Err(error @ (Errno::NOSPC | Errno::DQUOT)) => {
                    return Err(self.write_error(error.into()));
                }
                // It cannot, or fails at one of the two: then reading and writing tell at which.
                Ok(0) | Err(_) => break,
            }
        }
        Ok(from..extent.end)
    }

    fn through_memory(&mut self, extent: Range<u64>) -> Result<(), DiskError> {
        if !extent.is_empty() {
            self.buffer.resize(BUFFER, 0);
        }
        let mut position = extent.start;
        while position < extent.end {
            let step = at_most(BUFFER, extent.end - position);
            match self.base.file.read_at(&mut self.buffer[..step], position) {
                Ok(0) => return Err(DiskError::Changed { path: self.base.path.to_owned() }),
                Ok(read) => {
                    let written = self.disk.file().write_all_at(&self.buffer[..read], position);
                    written.map_err(|error| self.write_error(error))?;
                    position += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(extents::read_error(self.base, error)),
            }
        }
        Ok(())
    }

    fn write_error(&self, error: io::Error) -> DiskError {
        DiskError::write(self.disk.path(), self.needed, error)
    }
}

fn at_most(limit: usize, length: u64) -> usize {
    usize::try_from(length).map_or(limit, |length| length.min(limit))
}
