//! The old format of lz4 files, in which kernels are packed: blocks that each unpack to 8 MiB, the
//! last to less ("Legacy frame" in `lz4_Frame_format.md` of lz4).

use std::fmt;
use std::io::{self, Read};

const MAGIC: [u8; 4] = [0x02, 0x21, 0x4c, 0x18];

/// What a block unpacks to.
const BLOCK: usize = 8 << 20;

/// What a block of incompressible bytes may take (`LZ4_COMPRESSBOUND`).
const MOST_PACKED: usize = BLOCK + BLOCK / 255 + 16;

/// Reads what is packed.
pub(super) struct Lz4Blocks<R> {
    packed: R,
    block: Vec<u8>,
    /// How much of the block was read.
    at: usize,
}

impl<R: Read> Lz4Blocks<R> {
    pub(super) fn new(mut packed: R) -> io::Result<Self> {
        let mut magic = [0; 4];
        packed.read_exact(&mut magic)?;
        if magic != MAGIC {
            return Err(invalid("it does not begin like lz4 data"));
        }
        Ok(Self { packed, block: Vec::new(), at: 0 })
    }

    /// Unpacks the next block, which is empty at the end.
    fn next(&mut self) -> io::Result<()> {
        self.at = 0;
        self.block.clear();
        let mut size = [0; 4];
        if self.packed.read(&mut size[..1])? == 0 {
            return Ok(());
        }
        self.packed.read_exact(&mut size[1..])?;
        let size = u32::from_le_bytes(size);
        let within = usize::try_from(size).is_ok_and(|size| size <= MOST_PACKED);
        if !within {
            return Err(invalid("a block of lz4 data is too long"));
        }
        let mut packed = Vec::new();
        self.packed.by_ref().take(size.into()).read_to_end(&mut packed)?;
        self.block.resize(BLOCK, 0);
        let count = lz4_flex::block::decompress_into(&packed, &mut self.block).map_err(invalid)?;
        self.block.truncate(count);
        Ok(())
    }
}

impl<R: Read> Read for Lz4Blocks<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.block.len() {
            self.next()?;
        }
        let count = (&self.block[self.at..]).read(buffer)?;
        self.at += count;
        Ok(count)
    }
}

fn invalid(reason: impl fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.to_string())
}
