//! Ethernet frames in a stream, as QEMU's `-netdev stream` and passt have them: four bytes of
//! length, big-endian, before each.

use std::io::{self, Read};
use std::ops::Range;

/// The bytes before each frame.
pub(crate) const PREFIX: usize = 4;
/// Room for several of the longest frames that QEMU sends, of 68 KiB.
const BUFFER: usize = 256 << 10;

/// Reads frames until the stream ends, and writes those that are to `pass`, many at once where
/// many came at once. An error is one of reading, of writing, of `pass`, or a frame that no VMM
/// sends.
pub(crate) fn pump(
    mut from: impl Read,
    mut write: impl FnMut(&[u8]) -> io::Result<()>,
    mut pass: impl FnMut(&[u8]) -> io::Result<bool>,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    let mut filled = 0;
    loop {
        match from.read(&mut buffer[filled..]) {
            Ok(0) => return Ok(()),
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        let mut taken = 0;
        // What is to be written and was not yet, in whole frames.
        let mut passing = 0..0;
        while let Some(frame) = next_frame(&buffer[..filled], taken)? {
            if pass(&buffer[frame.clone()])? {
                passing.end = frame.end;
            } else {
                flush(&mut write, &buffer, &passing)?;
                passing = frame.end..frame.end;
            }
            taken = frame.end;
        }
        flush(&mut write, &buffer, &passing)?;
        buffer.copy_within(taken..filled, 0);
        filled -= taken;
    }
}

/// The first whole frame at or after `start`, without its length.
fn next_frame(bytes: &[u8], start: usize) -> io::Result<Option<Range<usize>>> {
    let Some(&[a, b, c, d]) = bytes.get(start..start + PREFIX) else { return Ok(None) };
    let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
    if length > BUFFER - PREFIX {
        let why = "the VMM and passt are no longer at the beginning of a frame";
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    let frame = start + PREFIX..start + PREFIX + length;
    Ok((frame.end <= bytes.len()).then_some(frame))
}

fn flush(
    write: &mut impl FnMut(&[u8]) -> io::Result<()>,
    buffer: &[u8],
    passing: &Range<usize>,
) -> io::Result<()> {
    if passing.is_empty() { Ok(()) } else { write(&buffer[passing.clone()]) }
}
