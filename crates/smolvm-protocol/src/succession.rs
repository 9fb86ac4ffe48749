//! How a guest that goes on from a snapshot learns that another host speaks: [`Heir`] finds what
//! that says first.
//!
//! The guest does not know that it was stopped. For it the session of the snapshot goes on, perhaps
//! in the midst of a frame. So the new host begins with a mark that only the host of that session
//! could know, and that is found wherever it stands:
//!
//! ```text
//! offset  size  field
//!      0    12  0xf5 "SMOLVM-NEXT"
//!     12    16  the nonce of the session at the snapshot
//! ```
//!
//! A [`Preamble`](crate::Preamble) follows, as at the beginning of every session.

use alloc::borrow::Cow;
use alloc::vec::Vec;

use crate::preamble::Nonce;

/// What the new host says before its preamble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Succession {
    /// The nonce of the session at the snapshot.
    pub nonce: Nonce,
}

/// Looks for the [`Succession`] in what the host of a session sends. It keeps less than one of
/// what it has seen.
#[derive(Debug)]
pub struct Heir {
    mark: [u8; Succession::LENGTH],
    /// The beginning of a mark, the rest of which may still come.
    held: Vec<u8>,
}

/// What is in a part of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard<'a> {
    /// What belongs to the session.
    pub session: Cow<'a, [u8]>,
    /// Once another host has spoken: what it has said after the mark.
    pub successor: Option<Vec<u8>>,
}

/// The first byte is in no text, so that most of what is sent need not be looked at closely.
const MAGIC: &[u8; 12] = b"\xf5SMOLVM-NEXT";

impl Succession {
    /// Its length in bytes.
    pub const LENGTH: usize = 28;

    /// The bytes to send.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        bytes[..MAGIC.len()].copy_from_slice(MAGIC);
        bytes[MAGIC.len()..].copy_from_slice(&self.nonce);
        bytes
    }
}

impl Heir {
    /// For the session of this nonce.
    #[must_use]
    pub fn new(nonce: Nonce) -> Self {
        Self { mark: Succession { nonce }.encode(), held: Vec::new() }
    }

    /// Takes in what was read.
    pub fn push<'a>(&mut self, bytes: &'a [u8]) -> Heard<'a> {
        if self.held.is_empty() && !bytes.contains(&self.mark[0]) {
            return Heard { session: bytes.into(), successor: None };
        }
        let mut bytes: Cow<'a, [u8]> = if self.held.is_empty() {
            bytes.into()
        } else {
            let mut all = core::mem::take(&mut self.held);
            all.extend_from_slice(bytes);
            all.into()
        };
        let mut from = 0;
        while let Some(at) = bytes[from..].iter().position(|byte| *byte == self.mark[0]) {
            let start = from + at;
            let seen = &bytes[start..];
            if seen.starts_with(&self.mark) {
                let successor = Some(seen[self.mark.len()..].to_vec());
                truncate(&mut bytes, start);
                return Heard { session: bytes, successor };
            }
            if self.mark.starts_with(seen) {
                self.held = seen.to_vec();
                truncate(&mut bytes, start);
                break;
            }
            from = start + 1;
        }
        Heard { session: bytes, successor: None }
    }
}

fn truncate(bytes: &mut Cow<'_, [u8]>, length: usize) {
    match bytes {
        Cow::Borrowed(bytes) => *bytes = &bytes[..length],
        Cow::Owned(bytes) => bytes.truncate(length),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_successor_is_heard_wherever_it_speaks() {
        let mark = Succession { nonce: [7; 16] }.encode();
        let other = Succession { nonce: [8; 16] }.encode();
        let before = [b"half a fra".as_slice(), &other, &mark[..20], b"\xf5\xf5"].concat();
        let stream = [before.as_slice(), &mark, b"what it says"].concat();
        for step in [1, 2, 5, 27, 28, 29, 64, stream.len()] {
            let mut heir = Heir::new([7; 16]);
            let (mut session, mut after) = (Vec::new(), None::<Vec<u8>>);
            for piece in stream.chunks(step) {
                if let Some(after) = &mut after {
                    after.extend_from_slice(piece);
                    continue;
                }
                let heard = heir.push(piece);
                session.extend_from_slice(&heard.session);
                after = heard.successor;
            }
            assert_eq!(session, before, "in steps of {step}");
            assert_eq!(after.as_deref(), Some(b"what it says".as_slice()), "in steps of {step}");
        }
    }

    #[test]
    fn what_only_begins_like_a_mark_is_not_lost() {
        let mark = Succession { nonce: [7; 16] }.encode();
        let mut heir = Heir::new([7; 16]);
        let mut session = heir.push(&mark[..27]).session.into_owned();
        assert!(session.is_empty());
        session.extend_from_slice(&heir.push(b"x").session);
        assert_eq!(session, [&mark[..27], b"x"].concat());
        assert!(heir.held.is_empty());
    }
}
