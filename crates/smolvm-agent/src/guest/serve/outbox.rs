//! [`Outbox`]: what is to be written to the host, as soon as it takes it.

use std::fs::File;
use std::io::{self, Write as _};

use smolvm_protocol::Reply;

/// Bytes on their way to the host.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    bytes: Vec<u8>,
    /// How many of them are written.
    written: usize,
}

/// Nothing more is read for the host while so much waits.
const ROOM: usize = 256 * 1024;

/// No request is taken while so much waits: the host asks and asks, and reads no answer.
const LIMIT: usize = 1024 * 1024;

impl Outbox {
    pub(super) fn push(&mut self, channel: u32, reply: &Reply) {
        reply.encode(channel, &mut self.bytes);
    }

    pub(super) fn push_bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn waiting(&self) -> usize {
        self.bytes.len() - self.written
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting() == 0
    }

    /// Whether more should be read for the host.
    pub(super) fn has_room(&self) -> bool {
        self.waiting() < ROOM
    }

    /// Whether requests should be taken.
    pub(super) fn takes_requests(&self) -> bool {
        self.waiting() < LIMIT
    }

    /// Writes as much as is taken now.
    pub(super) fn flush(&mut self, mut host: &File) -> io::Result<()> {
        while !self.is_empty() {
            match host.write(&self.bytes[self.written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        // What is written is forgotten at once when that costs nothing, else when it is much.
        if self.is_empty() {
            self.bytes.clear();
            self.written = 0;
            self.bytes.shrink_to(ROOM);
        } else if self.written >= ROOM {
            self.bytes.drain(..self.written);
            self.written = 0;
        }
        Ok(())
    }
}
