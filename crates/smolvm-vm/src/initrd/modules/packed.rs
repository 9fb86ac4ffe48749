//! Modules that are compressed, unpacked here: not every kernel does it (Alpine's does not), and
//! none does it as fast as this host where its processor is emulated.

use std::io::{self, Read};

use flate2::read::GzDecoder;
use lzma_rust2::XzReader;
use ruzstd::decoding::StreamingDecoder;

/// What a decompressor may take in memory, in KiB.
const MOST_MEMORY_KIB: u32 = 64 << 10;

/// The name without its ending and the content of a compressed module, up to `most` bytes. `None`
/// where it is not compressed, is damaged or is larger: then it is for the kernel to say so.
pub(super) fn unpack(path: &str, content: &[u8], most: u64) -> Option<(String, Vec<u8>)> {
    let (name, ending) = path.rsplit_once('.')?;
    let unpacked = match ending {
        "gz" => read(GzDecoder::new(content), most),
        "xz" => read(XzReader::new_mem_limit(content, true, MOST_MEMORY_KIB), most),
        "zst" => StreamingDecoder::new(content)
            .map_err(io::Error::other)
            .and_then(|decoder| read(decoder, most)),
        _ => return None,
    };
    let unpacked = unpacked.ok().filter(|unpacked| unpacked.len() as u64 <= most)?;
    Some((name.to_owned(), unpacked))
}

/// Reads one byte more than there should be.
fn read(decoder: impl Read, most: u64) -> io::Result<Vec<u8>> {
    let mut unpacked = Vec::new();
    decoder.take(most + 1).read_to_end(&mut unpacked)?;
    Ok(unpacked)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use smolvm_testkit::skip;

    use super::*;

    /// What a program makes of `content`; `None` where there is no such program.
    fn packed(program: &str, content: &[u8]) -> Option<Vec<u8>> {
        let mut command = Command::new(program);
        command.arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped());
        let Ok(mut child) = command.spawn() else {
            skip(&format!("there is no {program}"));
            return None;
        };
        child.stdin.take().unwrap().write_all(content).unwrap();
        Some(child.wait_with_output().unwrap().stdout)
    }

    #[test]
    fn a_module_is_unpacked_whatever_it_is_packed_with() {
        let content = b"\x7fELF a module ".repeat(1000);
        for (program, ending) in [("gzip", "gz"), ("xz", "xz"), ("zstd", "zst")] {
            let Some(packed) = packed(program, &content) else { return };
            let path = format!("kernel/virtio.ko.{ending}");
            let unpacked = unpack(&path, &packed, 1 << 20);
            assert_eq!(unpacked, Some(("kernel/virtio.ko".to_owned(), content.clone())));
            assert_eq!(unpack(&path, &packed, content.len() as u64 - 1), None);
            assert_eq!(unpack(&path, &packed[..packed.len() / 2], 1 << 20), None);
            assert_eq!(unpack("kernel/virtio.ko", &packed, 1 << 20), None);
        }
    }
}
