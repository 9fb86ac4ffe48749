//! Copies of files that share their blocks where the file system can, and keep their holes.

use std::fs::File;
use std::io;

use crate::cancel::CancelToken;

/// Makes `to` (empty) have the bytes of `from`: as a clone that shares its blocks where the file
/// system can, else as a copy that leaves holes out. Says whether it came to the end.
pub(super) fn clone_or_copy(
    from: &File,
    to: &File,
    size: u64,
    cancel: &CancelToken,
) -> io::Result<bool> {
    if rustix::fs::ioctl_ficlone(to, from).is_ok() {
        return Ok(true);
    }
    to.set_len(size)?;
    let mut offset = 0;
    while offset < size {
        let start = match rustix::fs::seek(from, rustix::fs::SeekFrom::Data(offset)) {
            Ok(start) => start,
            // Nothing but a hole up to the end (`lseek(2)`).
            Err(rustix::io::Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let end = rustix::fs::seek(from, rustix::fs::SeekFrom::Hole(start))?.min(size);
        if !copy_range(from, to, start, end, cancel)? {
            return Ok(false);
        }
        offset = end;
    }
    Ok(true)
}

fn copy_range(
    from: &File,
    to: &File,
    start: u64,
    end: u64,
    cancel: &CancelToken,
) -> io::Result<bool> {
    /// Bytes between two looks at the cancel token.
    const STEP: u64 = 16 << 20;
    let (mut read_at, mut write_at) = (start, start);
    while read_at < end {
        if cancel.is_cancelled() {
            return Ok(false);
        }
        let step = usize::try_from((end - read_at).min(STEP)).unwrap_or(usize::MAX);
        let copied =
            rustix::fs::copy_file_range(from, Some(&mut read_at), to, Some(&mut write_at), step)?;
        if copied == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(true)
}
