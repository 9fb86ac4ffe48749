//! Holes: stretches of zeros that a file does not store.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// The size in bytes, and the alignment in the file, of what can be a hole: a page, which is a
/// block of nearly every file system.
const BLOCK: u64 = 4096;

/// Writes bytes at the end of a file that has `offset` bytes, blocks of zeros as holes. Afterwards
/// the file has `offset` and the length of `bytes`, whatever they are.
pub(crate) fn append(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    let written = put(file, bytes, offset)?;
    let end = offset + bytes.len() as u64;
    // The length of the file is what has come: a transfer that goes on later begins there.
    if end > written {
        file.set_len(end)?;
    }
    Ok(())
}

/// Writes bytes to a place where a file has zeros, blocks of zeros as holes. Gives back where the
/// last byte was written that had to be.
pub(crate) fn put(file: &File, bytes: &[u8], offset: u64) -> io::Result<u64> {
    let mut rest = bytes;
    let mut at = offset;
    let mut written = offset;
    while !rest.is_empty() {
        let (count, zeros) = stretch(rest, at);
        let (now, later) = rest.split_at(count);
        if !zeros {
            file.write_all_at(now, at)?;
            written = at + count as u64;
        }
        at += count as u64;
        rest = later;
    }
    Ok(written)
}

/// The length of the stretch of blocks at the beginning that are all zeros or all not, and
/// which.
fn stretch(bytes: &[u8], offset: u64) -> (usize, bool) {
    let mut length = 0;
    let mut zeros = None;
    for block in blocks(bytes, offset) {
        let is_zero = is_zero(block);
        if *zeros.get_or_insert(is_zero) != is_zero {
            break;
        }
        length += block.len();
    }
    (length, zeros.unwrap_or(false))
}

/// Cuts bytes where blocks of the file begin.
fn blocks(bytes: &[u8], offset: u64) -> impl Iterator<Item = &[u8]> {
    let first = usize::try_from(BLOCK - offset % BLOCK).unwrap_or(usize::MAX).min(bytes.len());
    let (first, rest) = bytes.split_at(first);
    let size = usize::try_from(BLOCK).unwrap_or(usize::MAX);
    std::iter::once(first).chain(rest.chunks(size))
}

/// Most blocks of data show at their first bytes that they are none of zeros; those of zeros are
/// looked at in pieces that fit the processor's widest registers.
fn is_zero(block: &[u8]) -> bool {
    const PIECE: usize = 256;
    let pieces = block.chunks_exact(PIECE);
    pieces.remainder().iter().all(|&byte| byte == 0)
        && pieces.into_iter().all(|piece| piece.iter().fold(0, |all, byte| all | byte) == 0)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    /// Appends pieces of these lengths, and gives back the file and what it should have.
    fn written(bytes: &[u8], pieces: &[usize]) -> File {
        let file = tempfile::tempfile().unwrap();
        let (mut rest, mut offset) = (bytes, 0);
        for length in pieces.iter().copied().cycle() {
            if rest.is_empty() {
                break;
            }
            let (now, later) = rest.split_at(length.min(rest.len()));
            append(&file, now, offset).unwrap();
            offset += now.len() as u64;
            assert_eq!(file.metadata().unwrap().len(), offset);
            rest = later;
        }
        file
    }

    fn content(mut file: &File) -> Vec<u8> {
        let mut bytes = Vec::new();
        std::io::Seek::rewind(&mut file).unwrap();
        file.read_to_end(&mut bytes).unwrap();
        bytes
    }

    /// Behaviour 21: content and apparent size are exact, however the bytes arrive.
    #[test]
    fn content_and_size_are_exact_however_the_bytes_are_cut() {
        let mut bytes = vec![0; 300_001];
        for at in [0, 4095, 4096, 70_000, 199_999, 262_143] {
            bytes[at] = 1;
        }
        for pieces in [&[300_001][..], &[1], &[4096], &[4095, 3], &[100_000, 7, 65_536]] {
            assert_eq!(content(&written(&bytes, pieces)), bytes, "{pieces:?}");
        }
        assert_eq!(content(&written(&[0; 10_000], &[10_000])), [0; 10_000]);
        assert!(content(&written(&[], &[1])).is_empty());
    }

    /// Behaviour 21: zeros take no room.
    #[test]
    fn zeros_take_no_room() {
        let mut bytes = vec![0; 4 << 20];
        bytes[..4096].fill(7);
        bytes[(2 << 20) + 5] = 7;
        let file = written(&bytes, &[256 << 10]);
        assert!(file.metadata().unwrap().blocks() * 512 <= 64 << 10);
        assert_eq!(content(&file), bytes);
    }
}
