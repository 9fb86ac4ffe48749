//! Numbers at given places of a header, and bytes at given places of a file that others read too.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;

/// Little-endian numbers in a header; `None` for what lies behind its end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn bytes<const N: usize>(self, at: usize) -> Option<&'a [u8; N]> {
        self.0.get(at..)?.first_chunk()
    }

    pub(crate) fn u8(self, at: usize) -> Option<u8> {
        self.0.get(at).copied()
    }

    pub(crate) fn u16(self, at: usize) -> Option<u16> {
        self.bytes(at).map(|bytes| u16::from_le_bytes(*bytes))
    }

    pub(crate) fn u32(self, at: usize) -> Option<u32> {
        self.bytes(at).map(|bytes| u32::from_le_bytes(*bytes))
    }

    pub(crate) fn u64(self, at: usize) -> Option<u64> {
        self.bytes(at).map(|bytes| u64::from_le_bytes(*bytes))
    }

    /// Whether `expected` stands at `at`.
    pub(crate) fn has(self, at: usize, expected: &[u8]) -> bool {
        self.0.get(at..).is_some_and(|rest| rest.starts_with(expected))
    }
}

/// No file reaches this far. The kernel refuses larger offsets, and headers may name any.
const MOST_OFFSET: u64 = 1 << 62;

/// Reads a file from a place of its own. The file's cursor is not moved, since every process that
/// inherits the descriptor shares it.
#[derive(Debug)]
pub(crate) struct PositionedReader<'a> {
    file: &'a File,
    offset: u64,
}

impl<'a> PositionedReader<'a> {
    /// A reader that begins at `offset` bytes.
    pub(crate) fn new(file: &'a File, offset: u64) -> Self {
        Self { file, offset }
    }
}

impl Read for PositionedReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.offset > MOST_OFFSET {
            return Ok(0);
        }
        let count = self.file.read_at(buffer, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}

/// The bytes from `offset` on, `length` of them or as many as the file has.
pub(crate) fn read_up_to(file: &File, offset: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    PositionedReader::new(file, offset).take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::{Seek as _, SeekFrom, Write as _};

    use super::*;

    #[test]
    fn fields_are_little_endian_and_end_with_the_header() {
        let fields = Fields(&[1, 2, 3, 4, 5, 6, 7, 8, 9]);
        assert_eq!(fields.u8(8), Some(9));
        assert_eq!(fields.u16(1), Some(0x0302));
        assert_eq!(fields.u32(5), Some(0x0908_0706));
        assert_eq!(fields.u64(1), Some(0x0908_0706_0504_0302));
        assert_eq!((fields.u64(2), fields.u16(usize::MAX), fields.u8(9)), (None, None, None));
        assert!(fields.has(7, &[8, 9]) && !fields.has(8, &[9, 10]) && !fields.has(99, &[1]));
    }

    #[test]
    fn reading_leaves_the_cursor_where_it_was() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        file.seek(SeekFrom::Start(3)).unwrap();
        assert_eq!(read_up_to(&file, 4, 3).unwrap(), b"456");
        assert_eq!(read_up_to(&file, 8, 100).unwrap(), b"89");
        assert_eq!(read_up_to(&file, u64::MAX, 1).unwrap(), b"");
        assert_eq!(read_up_to(&file, MOST_OFFSET, 9).unwrap(), b"");
        assert_eq!(file.stream_position().unwrap(), 3);
    }
}
