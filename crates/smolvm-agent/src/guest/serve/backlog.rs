//! [`Backlog`]: what the host has sent and whoever it is for has not taken.

use std::collections::VecDeque;
use std::io::{self, Write};

/// Pieces in the order in which they came.
#[derive(Default)]
pub(super) struct Backlog {
    pieces: VecDeque<Vec<u8>>,
    /// How much of the first of them is written.
    written: usize,
}

impl Backlog {
    pub(super) fn push(&mut self, piece: Vec<u8>) {
        if !piece.is_empty() {
            self.pieces.push_back(piece);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Writes what is taken now. Returns how much that was, and the error that there was after it.
    pub(super) fn write(&mut self, mut to: impl Write) -> (usize, io::Result<()>) {
        let mut count = 0;
        while let Some(first) = self.pieces.front() {
            match to.write(&first[self.written..]) {
                Ok(more) => {
                    count += more;
                    self.written += more;
                    if self.written == first.len() {
                        self.written = 0;
                        self.pieces.pop_front();
                    }
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => break,
                    io::ErrorKind::Interrupted => {}
                    _ => return (count, Err(error)),
                },
            }
        }
        (count, Ok(()))
    }

    /// Drops all of it. Returns how much that was.
    pub(super) fn clear(&mut self) -> usize {
        let left = self.pieces.iter().map(Vec::len).sum::<usize>() - self.written;
        *self = Self::default();
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes two bytes at a time, and what `errors` says in between.
    struct Slow {
        taken: Vec<u8>,
        errors: Vec<io::ErrorKind>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.taken.len() % 4 == 2
                && let Some(kind) = self.errors.pop()
            {
                return Err(kind.into());
            }
            let count = bytes.len().min(2);
            self.taken.extend(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn all_is_written_in_order_and_counted_whatever_comes_between() {
        use io::ErrorKind::{BrokenPipe, Interrupted, WouldBlock};

        let mut backlog = Backlog::default();
        for piece in [b"abc".as_slice(), b"", b"defgh"] {
            backlog.push(piece.to_vec());
        }
        let mut slow =
            Slow { taken: Vec::new(), errors: vec![BrokenPipe, WouldBlock, Interrupted] };
        let (count, ended) = backlog.write(&mut slow);
        assert_eq!((count, ended.is_ok(), slow.taken.as_slice()), (2, true, b"ab".as_slice()));
        let (count, ended) = backlog.write(&mut slow);
        assert_eq!((count, ended.unwrap_err().kind()), (0, BrokenPipe));
        assert_eq!(backlog.clear(), 6);
        assert!(backlog.is_empty());
        backlog.push(b"xyz".to_vec());
        let (count, ended) = backlog.write(&mut slow);
        assert_eq!((count, ended.is_ok(), slow.taken.as_slice()), (3, true, b"abxyz".as_slice()));
        assert!(backlog.is_empty());
    }
}
