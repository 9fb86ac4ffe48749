//! The first bytes of a session, by which each side finds the beginning of what is meant for it.
//!
//! A virtio-serial port has no connections: what an earlier client left unread is still in it. So
//! the host says a fresh nonce, and believes nothing before the guest has said the same nonce.
//!
//! ```text
//! offset  size  field
//!      0    12  "SMOLVM-HOST\n" or "SMOLVM-GUES\n"
//!     12     2  version, little-endian
//!     14     2  zero
//!     16    16  nonce
//! ```

use alloc::vec::Vec;

use crate::VERSION;
use crate::error::ProtocolError;

/// Random bytes that tell a session from all others.
pub type Nonce = [u8; 16];

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The host, or a client of the supervisor.
    Host,
    /// The agent, or the supervisor in its stead.
    Guest,
}

/// What each side says first; the guest repeats the host's nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preamble {
    /// Who speaks.
    pub side: Side,
    /// The highest version that it speaks.
    pub version: u16,
    /// The host's nonce.
    pub nonce: Nonce,
}

const MAGIC: usize = 12;

impl Side {
    fn magic(self) -> &'static [u8; MAGIC] {
        match self {
            Self::Host => b"SMOLVM-HOST\n",
            Self::Guest => b"SMOLVM-GUES\n",
        }
    }
}

impl Preamble {
    /// Its length in bytes.
    pub const LENGTH: usize = 32;

    /// The preamble of this version of the protocol.
    #[must_use]
    pub fn new(side: Side, nonce: Nonce) -> Self {
        Self { side, version: VERSION, nonce }
    }

    /// The bytes to send.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        bytes[..MAGIC].copy_from_slice(self.side.magic());
        bytes[MAGIC..MAGIC + 2].copy_from_slice(&self.version.to_le_bytes());
        bytes[16..].copy_from_slice(&self.nonce);
        bytes
    }
}

/// Looks for the other side's preamble in a stream that may begin with anything. It keeps less
/// than one preamble of what it has seen.
#[derive(Debug)]
pub struct Scanner {
    side: Side,
    nonce: Option<Nonce>,
    seen: Vec<u8>,
}

impl Scanner {
    /// For the agent: any host's preamble.
    #[must_use]
    pub fn for_host() -> Self {
        Self { side: Side::Host, nonce: None, seen: Vec::new() }
    }

    /// For the host: a guest's preamble with this nonce and no other.
    #[must_use]
    pub fn for_guest(nonce: Nonce) -> Self {
        Self { side: Side::Guest, nonce: Some(nonce), seen: Vec::new() }
    }

    /// Takes in what was read. Once the preamble is there: it and the bytes that follow it.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Option<(Preamble, Vec<u8>)>, ProtocolError> {
        self.seen.extend_from_slice(bytes);
        let mut from = 0;
        while let Some(at) = find(&self.seen[from..], self.side.magic()) {
            let start = from + at;
            let Some(found) = self.seen.get(start..start + Preamble::LENGTH) else {
                // The rest of it is still to come.
                self.seen.drain(..start);
                return Ok(None);
            };
            let mut nonce = [0; 16];
            nonce.copy_from_slice(&found[16..]);
            if self.nonce.is_none_or(|wanted| wanted == nonce) {
                let version = u16::from_le_bytes([found[MAGIC], found[MAGIC + 1]]);
                if version < VERSION {
                    return Err(ProtocolError::Version(version));
                }
                let rest = self.seen.split_off(start + Preamble::LENGTH);
                self.seen.clear();
                return Ok(Some((Preamble { side: self.side, version, nonce }, rest)));
            }
            from = start + 1;
        }
        let kept = self.seen.len().saturating_sub(MAGIC - 1).max(from);
        self.seen.drain(..kept);
        Ok(None)
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_to_an_earlier_session_is_passed_over() {
        let old = Preamble::new(Side::Guest, [1; 16]).encode();
        let new = Preamble::new(Side::Guest, [2; 16]).encode();
        let stream = [b"half a frame".as_slice(), &old, b"SMOLVM-", &new, b"frames"].concat();
        for step in [1, 5, 31, stream.len()] {
            let mut scanner = Scanner::for_guest([2; 16]);
            let mut found = None;
            let mut after = Vec::new();
            for piece in stream.chunks(step) {
                match &found {
                    None => {
                        if let Some((preamble, rest)) = scanner.push(piece).unwrap() {
                            found = Some(preamble);
                            after = rest;
                        }
                    }
                    Some(_) => after.extend_from_slice(piece),
                }
            }
            assert_eq!(found, Some(Preamble::new(Side::Guest, [2; 16])), "in steps of {step}");
            assert_eq!(after, b"frames");
        }
    }

    #[test]
    fn a_flood_of_anything_is_not_kept() {
        let mut scanner = Scanner::for_host();
        for _ in 0..1000 {
            assert_eq!(scanner.push(&[b'S'; 4096]).unwrap(), None);
            assert!(scanner.seen.len() < Preamble::LENGTH);
        }
    }

    #[test]
    fn the_past_has_no_version() {
        let mut bytes = Preamble::new(Side::Host, [0; 16]).encode();
        bytes[12..14].copy_from_slice(&0_u16.to_le_bytes());
        assert_eq!(Scanner::for_host().push(&bytes), Err(ProtocolError::Version(0)));
    }
}
