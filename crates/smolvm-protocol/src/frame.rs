//! Frames: a length, a channel, a kind and a payload; and the [`Decoder`] that finds them in a
//! stream.
//!
//! ```text
//! offset  size  field
//!      0     4  length of the payload, little-endian, at most MAX_PAYLOAD
//!      4     4  channel, little-endian
//!      8     1  kind: which request or reply it is
//!      9     …  payload
//! ```

use alloc::vec::Vec;

use crate::error::ProtocolError;

/// The bytes before the payload.
pub const HEADER: usize = 9;

/// The most bytes that a payload may have.
pub const MAX_PAYLOAD: usize = 64 * 1024;

/// One frame, borrowed from the [`Decoder`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Which conversation it belongs to.
    pub channel: u32,
    /// Which request or reply it is.
    pub kind: u8,
    /// Its fields.
    pub payload: &'a [u8],
}

impl Frame<'_> {
    /// Appends the frame to `wire`.
    pub fn encode(&self, wire: &mut Vec<u8>) {
        encode_with(self.channel, self.kind, wire, |wire| wire.extend_from_slice(self.payload));
    }
}

/// Appends a frame whose payload `write` appends.
pub(crate) fn encode_with(
    channel: u32,
    kind: u8,
    wire: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>),
) {
    let start = wire.len();
    wire.extend_from_slice(&[0; 4]);
    wire.extend_from_slice(&channel.to_le_bytes());
    wire.push(kind);
    write(wire);
    // Whoever sends too long a frame is refused by the receiver; it cannot be mistaken.
    let length = u32::try_from(wire.len() - start - HEADER).unwrap_or(u32::MAX);
    wire[start..start + 4].copy_from_slice(&length.to_le_bytes());
}

/// Finds the frames in a stream of bytes. It holds what was pushed and not yet taken: push what
/// one `read` brought, then take all frames, and it never holds more than one frame and one read.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    start: usize,
}

impl Decoder {
    /// Takes in what was read.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.start);
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, or `None` until more is pushed.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, ProtocolError> {
        let Some((header, rest)) = self.buffer[self.start..].split_first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let [l0, l1, l2, l3, c0, c1, c2, c3, kind] = *header;
        let length = u32::from_le_bytes([l0, l1, l2, l3]);
        let size = usize::try_from(length)
            .ok()
            .filter(|&size| size <= MAX_PAYLOAD)
            .ok_or(ProtocolError::FrameTooLong(length))?;
        let Some(payload) = rest.get(..size) else {
            return Ok(None);
        };
        self.start += HEADER + size;
        Ok(Some(Frame { channel: u32::from_le_bytes([c0, c1, c2, c3]), kind, payload }))
    }
}
