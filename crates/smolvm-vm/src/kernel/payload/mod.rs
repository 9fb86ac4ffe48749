//! The `vmlinux` inside a bzImage, for VMMs that take no bzImage: where it is packed, and how.
//!
//! The setup header says where (`payload_offset` and `payload_length` in
//! `Documentation/arch/x86/boot.rst`), the first bytes say how, and the last four how large it is.

mod lz4;

#[cfg(test)]
pub(super) mod tests;

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use bzip2::read::BzDecoder;
use flate2::read::GzDecoder;
use lzma_rust2::{LzmaReader, XzReader};
use ruzstd::decoding::StreamingDecoder;

use self::lz4::Lz4Blocks;
use super::banner::MOST_KERNEL;
use super::{Fields, KernelError, PositionedReader, read_up_to};

const SETUP_SECTORS: usize = 0x1f1;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;

const SECTOR: u64 = 512;

/// The bytes at the end of a payload that tell the size of what it unpacks to.
const SIZE: u64 = 4;

/// What a decompressor may take in memory, in KiB: twice what kernels are packed for.
const MOST_MEMORY_KIB: u32 = 256 << 10;

/// A way in which kernels are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packing {
    None,
    Gzip,
    Xz,
    Lzma,
    Zstd,
    Lz4,
    Bzip2,
}

/// What payloads begin with.
const MAGICS: &[(&[u8], Packing)] = &[
    (b"\x7fELF", Packing::None),
    (b"\x1f\x8b", Packing::Gzip),
    (b"\xfd7zXZ\0", Packing::Xz),
    (b"\x5d\0\0", Packing::Lzma),
    (b"\x28\xb5\x2f\xfd", Packing::Zstd),
    (b"\x02\x21\x4c\x18", Packing::Lz4),
    (b"BZh", Packing::Bzip2),
];

/// Why a payload was not unpacked.
enum Failure {
    /// The file is at fault; how.
    Damaged(String),
    /// What is written to is.
    Write(io::Error),
}

/// Writes the `vmlinux` inside the bzImage `kernel` to `vmlinux`. `path` is what messages call the
/// bzImage. The file's cursor is not moved, and no more is written than a kernel can be large.
pub(super) fn unpack<W: Write>(
    kernel: &File,
    path: &Path,
    vmlinux: &mut W,
) -> Result<(), KernelError> {
    find_and_unpack(kernel, vmlinux).map_err(|failure| match failure {
        Failure::Damaged(reason) => KernelError::Payload { path: path.to_owned(), reason },
        Failure::Write(source) => KernelError::Unpack { path: path.to_owned(), source },
    })
}

fn find_and_unpack(kernel: &File, vmlinux: &mut impl Write) -> Result<(), Failure> {
    let head = read_up_to(kernel, 0, SECTOR * 2).map_err(damaged)?;
    let (offset, length) =
        place(Fields(&head)).ok_or_else(|| damaged("its header names no payload"))?;
    let magic = read_up_to(kernel, offset, 8).map_err(damaged)?;
    let packing = MAGICS.iter().find(|(bytes, _)| magic.starts_with(bytes));
    let packing = packing.map(|(_, packing)| *packing).ok_or_else(|| {
        damaged("it is packed in a way other than gzip, xz, lzma, zstd, lz4 and bzip2")
    })?;

    let payload = PositionedReader::new(kernel, offset).take(length);
    if packing == Packing::None {
        return copy(payload, MOST_KERNEL, vmlinux).map(drop);
    }
    let size = read_up_to(kernel, offset + length - SIZE, SIZE).map_err(damaged)?;
    let size = Fields(&size).u32(0).ok_or_else(|| damaged("it is cut off"))?;
    let size = u64::from(size);
    if size > MOST_KERNEL {
        return Err(damaged(format_args!("it says that it unpacks to {size} bytes")));
    }
    // Gzip has the size in its own footer; elsewhere it is added, and is no part of the data.
    let of_data = if packing == Packing::Gzip { length } else { length - SIZE };
    let mut unpacked = decoder(packing, payload.take(of_data)).map_err(damaged)?;
    let count = copy(&mut unpacked, size, vmlinux)?;
    if count != size {
        return Err(damaged(format_args!("it unpacks to {count} bytes, not to {size}")));
    }
    Ok(())
}

/// Where the payload begins and how long it is, as far as the header is believed: all that is read
/// later may end early.
fn place(fields: Fields<'_>) -> Option<(u64, u64)> {
    let sectors = match fields.u8(SETUP_SECTORS)? {
        0 => 4,
        sectors => u64::from(sectors),
    };
    let offset = u64::from(fields.u32(PAYLOAD_OFFSET)?);
    let length = u64::from(fields.u32(PAYLOAD_LENGTH)?);
    (length > SIZE).then(|| ((sectors + 1) * SECTOR + offset, length))
}

fn decoder<'a>(packing: Packing, payload: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let payload = BufReader::with_capacity(64 << 10, payload);
    Ok(match packing {
        Packing::None => Box::new(payload),
        Packing::Gzip => Box::new(GzDecoder::new(payload)),
        Packing::Xz => Box::new(XzReader::new_mem_limit(payload, false, MOST_MEMORY_KIB)),
        Packing::Lzma => Box::new(LzmaReader::new_mem_limit(payload, MOST_MEMORY_KIB, None)?),
        Packing::Zstd => Box::new(StreamingDecoder::new(payload).map_err(io::Error::other)?),
        Packing::Lz4 => Box::new(Lz4Blocks::new(payload)?),
        Packing::Bzip2 => Box::new(BzDecoder::new(payload)),
    })
}

/// Copies up to `most` bytes and one more; how many.
fn copy(mut from: impl Read, most: u64, to: &mut impl Write) -> Result<u64, Failure> {
    let mut buffer = vec![0; 256 << 10];
    let mut count = 0;
    while count <= most {
        let read = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(damaged(error)),
        };
        count += read as u64;
        to.write_all(&buffer[..read]).map_err(Failure::Write)?;
    }
    Ok(count)
}

fn damaged(reason: impl fmt::Display) -> Failure {
    Failure::Damaged(reason.to_string())
}
