//! [`Buffer`]: a page-aligned block of memory that bytes are received into and hashed from.

/// Bytes in a buffer: large enough that the cost of a system call does not show.
pub(crate) const SIZE: usize = 256 << 10;

const PAGE: usize = 4096;

/// A block of [`SIZE`] bytes that begins on a page boundary, of which the first part is filled.
///
/// The alignment is worth its trouble: the kernel copies into a large `Vec`, which lies 16 bytes
/// past a boundary, at a quarter of the speed.
#[derive(Debug)]
pub(crate) struct Buffer {
    memory: Vec<u8>,
    start: usize,
    filled: usize,
}

impl Buffer {
    pub(crate) fn new() -> Self {
        let memory = vec![0; SIZE + PAGE];
        // `align_offset` may decline to answer; then the buffer works, only slower.
        let start = Some(memory.as_ptr().align_offset(PAGE)).filter(|&at| at <= PAGE).unwrap_or(0);
        Self { memory, start, filled: 0 }
    }

    /// What has been filled.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.filled]
    }

    /// The part that has not been filled yet.
    pub(crate) fn space(&mut self) -> &mut [u8] {
        &mut self.memory[self.start + self.filled..self.start + SIZE]
    }

    /// Counts bytes that were put at the beginning of [`space`](Self::space) as filled.
    pub(crate) fn fill(&mut self, count: usize) {
        self.filled = (self.filled + count).min(SIZE);
    }

    pub(crate) fn is_full(&self) -> bool {
        self.filled == SIZE
    }

    pub(crate) fn clear(&mut self) {
        self.filled = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn begins_on_a_page_and_fills_up() {
        let mut buffer = Buffer::new();
        assert_eq!(buffer.space().as_ptr().align_offset(PAGE), 0);
        buffer.space()[..3].copy_from_slice(b"abc");
        buffer.fill(3);
        assert_eq!(buffer.bytes(), b"abc");
        assert_eq!(buffer.space().len(), SIZE - 3);
        buffer.fill(SIZE);
        assert!(buffer.is_full() && buffer.space().is_empty());
        buffer.clear();
        assert!(buffer.bytes().is_empty());
    }
}
