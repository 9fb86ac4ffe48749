//! Bytes on their way to a socket that may not take them all at once.

use std::io::{self, Write as _};
use std::os::unix::net::UnixStream;

/// What is still to be written.
#[derive(Default)]
pub(crate) struct Outgoing {
    bytes: Vec<u8>,
    start: usize,
    is_blocked: bool,
}

/// The memory that is kept for what comes next.
const KEPT: usize = 1024 * 1024;

impl Outgoing {
    /// How many bytes are still to be written.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Whether nothing is.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where to append what is to be written.
    pub(crate) fn end(&mut self) -> &mut Vec<u8> {
        // Moving the rest to the front is worth it once it is the smaller part.
        if self.start > self.bytes.len() / 2 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        &mut self.bytes
    }

    /// The socket takes bytes again.
    pub(crate) fn unblock(&mut self) {
        self.is_blocked = false;
    }

    /// Writes as much as the socket takes.
    pub(crate) fn flush(&mut self, mut socket: &UnixStream) -> io::Result<()> {
        while !self.is_empty() && !self.is_blocked {
            match socket.write(&self.bytes[self.start..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.start += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.is_blocked = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if self.is_empty() {
            self.bytes.clear();
            self.bytes.shrink_to(KEPT);
            self.start = 0;
        }
        Ok(())
    }
}
