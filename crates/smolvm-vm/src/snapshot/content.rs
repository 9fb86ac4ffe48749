//! [`Content`]: what a file of a snapshot holds, told by its length and a digest that costs nothing
//! for what is zero.
//!
//! Memory and disks are zero for the most part, and stored as holes. So the digest is the SHA-256 of
//! the blocks of 64 KiB that are not all zeros, each after its offset (64 bits, little-endian), and
//! at last of the length of the file. It is the same whether zeros are holes in the file or not.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use rustix::fs::SeekFrom;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use smolvm_image::Digest;

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Content {
    /// The bytes that the file has.
    pub(super) length: u64,
    /// See the module.
    pub(super) digest: Digest,
}

/// Finds the [`Content`] of what comes in pieces.
pub(super) struct Hasher {
    sha256: Sha256,
    block: Vec<u8>,
    length: u64,
}

/// The bytes that are looked at at once.
const BLOCK: usize = 64 * 1024;

impl Content {
    /// That of a file, of which holes are not read. Its cursor is moved.
    pub(super) fn of(file: &File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        let mut hasher = Sha256::new();
        let mut block = vec![0; BLOCK];
        let mut offset = 0;
        while offset < length {
            match rustix::fs::seek(file, SeekFrom::Data(offset)) {
                Ok(data) => offset = data - data % BLOCK as u64,
                Err(Errno::NXIO) => break,
                // A file system without holes.
                Err(Errno::INVAL) => {}
                Err(error) => return Err(error.into()),
            }
            let size = usize::try_from(length - offset).map_or(BLOCK, |left| left.min(BLOCK));
            file.read_exact_at(&mut block[..size], offset)?;
            add(&mut hasher, offset, &block[..size]);
            offset += size as u64;
        }
        Ok(Self::end(hasher, length))
    }

    /// Copies a file, of which what is zero takes no room; that of the copy.
    pub(super) fn copy(from: &File, to: &File) -> io::Result<Self> {
        let mut hasher = Hasher::new();
        let mut block = vec![0; BLOCK];
        let mut offset = 0;
        loop {
            let count = match from.read_at(&mut block, offset) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if !is_zero(&block[..count]) {
                to.write_all_at(&block[..count], offset)?;
            }
            hasher.push(&block[..count]);
            offset += count as u64;
        }
        to.set_len(offset)?;
        Ok(hasher.end())
    }

    fn end(mut hasher: Sha256, length: u64) -> Self {
        hasher.update(length.to_le_bytes());
        Self { length, digest: hasher.into() }
    }
}

impl Hasher {
    pub(super) fn new() -> Self {
        Self { sha256: Sha256::new(), block: Vec::with_capacity(BLOCK), length: 0 }
    }

    /// Takes the next bytes.
    pub(super) fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (part, rest) = bytes.split_at(bytes.len().min(BLOCK - self.block.len()));
            self.block.extend_from_slice(part);
            if self.block.len() == BLOCK {
                self.end_block();
            }
            bytes = rest;
        }
    }

    /// What all of it was.
    pub(super) fn end(mut self) -> Content {
        self.end_block();
        Content::end(self.sha256, self.length)
    }

    fn end_block(&mut self) {
        add(&mut self.sha256, self.length, &self.block);
        self.length += self.block.len() as u64;
        self.block.clear();
    }
}

/// Adds a block, unless it is zero.
fn add(hasher: &mut Sha256, offset: u64, block: &[u8]) {
    if !is_zero(block) {
        hasher.update(offset.to_le_bytes());
        hasher.update(block);
    }
}

/// Compared with itself, one byte further: as fast as memory is read.
fn is_zero(block: &[u8]) -> bool {
    block.first().is_none_or(|&first| first == 0 && block[1..] == block[..block.len() - 1])
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn in_pieces(bytes: &[u8], step: usize) -> Content {
        let mut hasher = Hasher::new();
        bytes.chunks(step).for_each(|piece| hasher.push(piece));
        hasher.end()
    }

    #[test]
    fn holes_and_zeros_are_the_same_and_all_else_is_not() {
        let mut bytes = vec![0; 5 * BLOCK + 77];
        bytes[3 * BLOCK + 5] = 1;
        let whole = in_pieces(&bytes, bytes.len());
        assert_eq!(in_pieces(&bytes, 1000), whole);

        let mut dense = tempfile::tempfile().unwrap();
        dense.write_all(&bytes).unwrap();
        assert_eq!(Content::of(&dense).unwrap(), whole);
        let sparse = tempfile::tempfile().unwrap();
        sparse.set_len(bytes.len() as u64).unwrap();
        sparse.write_all_at(&[1], 3 * BLOCK as u64 + 5).unwrap();
        assert_eq!(Content::of(&sparse).unwrap(), whole);
        let copy = tempfile::tempfile().unwrap();
        assert_eq!(Content::copy(&dense, &copy).unwrap(), whole);
        assert_eq!(Content::of(&copy).unwrap(), whole);

        // A byte elsewhere, a byte more, a byte less.
        sparse.write_all_at(&[1], 5 * BLOCK as u64).unwrap();
        assert_ne!(Content::of(&sparse).unwrap(), whole);
        sparse.write_all_at(&[0], 5 * BLOCK as u64).unwrap();
        assert_eq!(Content::of(&sparse).unwrap(), whole);
        for length in [bytes.len() + 1, bytes.len() - 1] {
            sparse.set_len(length as u64).unwrap();
            assert_ne!(Content::of(&sparse).unwrap(), whole);
        }
        let mut moved = vec![0; bytes.len()];
        moved[4 * BLOCK + 5] = 1;
        assert_ne!(in_pieces(&moved, 4096), whole);
        assert_eq!(in_pieces(&[], 1), Content::of(&tempfile::tempfile().unwrap()).unwrap());
    }
}
