//! The arm64 kernel `Image` (`Documentation/arch/arm64/booting.rst`), as it is or compressed with
//! gzip.

use std::fs::File;
use std::io::{self, Read as _};

use flate2::read::GzDecoder;

use super::banner::Banner;
use super::{Architecture, Fields, Header, KernelFormat, PositionedReader, Refusal};

const MAGIC: (usize, &[u8]) = (56, b"ARM\x64");
const GZIP: &[u8] = &[0x1f, 0x8b];

/// The length of the header.
const HEADER: u64 = 64;

/// The header, where the file is an Image or one within gzip.
pub(super) fn read(head: &[u8], file: &File) -> Result<Option<Header>, Refusal> {
    let start = PositionedReader::new(file, 0);
    let (format, banner) = if is_image(head) {
        (KernelFormat::Arm64Image, Banner::search(start)?)
    } else if head.starts_with(GZIP) && is_image(&first_unpacked(head)) {
        let unpacked = Banner::search(GzDecoder::new(start)).map_err(damaged)?;
        (KernelFormat::Arm64ImageGzip, unpacked)
    } else {
        return Ok(None);
    };
    Ok(Some(Header { format, architecture: Architecture::Aarch64, banner }))
}

fn is_image(head: &[u8]) -> bool {
    Fields(head).has(MAGIC.0, MAGIC.1)
}

/// As much of the header as the first bytes of the file unpack to.
fn first_unpacked(head: &[u8]) -> Vec<u8> {
    let mut header = Vec::new();
    // The compressed data goes on after these bytes: what came before the end is all that counts.
    let _ = GzDecoder::new(head).take(HEADER).read_to_end(&mut header);
    header
}

fn damaged(error: io::Error) -> Refusal {
    match error.kind() {
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
            Refusal::NotAKernel("an arm64 Image whose compressed data is damaged or cut off")
        }
        _ => Refusal::Read(error),
    }
}
