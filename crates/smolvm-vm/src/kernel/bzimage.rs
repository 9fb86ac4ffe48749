//! The x86 kernel with its boot sector, by the Linux/x86 boot protocol
//! (`Documentation/arch/x86/boot.rst`).

use std::fs::File;
use std::io;

use super::banner::{self, Banner};
use super::{Architecture, Fields, Header, KernelFormat, Refusal, read_up_to};

const BOOT_FLAG: usize = 0x1fe;
const HEADER_MAGIC: usize = 0x202;
const VERSION: usize = 0x206;
const KERNEL_VERSION: usize = 0x20e;
const SETUP_SECTORS: usize = 0x1f1;
const LOAD_FLAGS: usize = 0x211;
const EXTENDED_LOAD_FLAGS: usize = 0x236;

/// In `LOAD_FLAGS`: the protected-mode code lies above 1 MiB.
const LOADED_HIGH: u8 = 1;
/// In `EXTENDED_LOAD_FLAGS`: the kernel has a 64-bit entry point.
const KERNEL_64: u16 = 1;
/// The first version of the protocol whose kernels say whether they are 64-bit ones: Linux 3.8.
const SAYS_64: u16 = 0x020c;

const SECTOR: u64 = 512;

/// The header, where the file has a boot sector of the kernel's.
pub(super) fn read(head: &[u8], file: &File) -> Result<Option<Header>, Refusal> {
    let fields = Fields(head);
    if !fields.has(BOOT_FLAG, &[0x55, 0xaa]) || !fields.has(HEADER_MAGIC, b"HdrS") {
        return Ok(None);
    }
    let (Some(version), Some(load_flags), Some(extended_load_flags)) =
        (fields.u16(VERSION), fields.u8(LOAD_FLAGS), fields.u16(EXTENDED_LOAD_FLAGS))
    else {
        return Err(Refusal::NotAKernel("the first bytes of a bzImage; the file is cut off"));
    };
    if version < SAYS_64 || load_flags & LOADED_HIGH == 0 {
        return Err(Refusal::Unsupported {
            content: "a kernel older than Linux 3.8",
            remedy: "Give a newer one",
        });
    }
    if extended_load_flags & KERNEL_64 == 0 {
        return Err(Refusal::Unsupported {
            content: "a 32-bit kernel",
            remedy: "Give one for x86_64",
        });
    }
    Ok(Some(Header {
        format: KernelFormat::BzImage,
        architecture: Architecture::X86_64,
        banner: Banner { release: release(fields, file)?, supports_initrd: None },
    }))
}

/// The first word of the version string, which lies within the real-mode code.
fn release(fields: Fields<'_>, file: &File) -> io::Result<Option<String>> {
    let (Some(pointer), Some(sectors)) = (fields.u16(KERNEL_VERSION), fields.u8(SETUP_SECTORS))
    else {
        return Ok(None);
    };
    // The documentation: 0 sectors stand for 4, and a pointer of 0 for none.
    let sectors = if sectors == 0 { 4 } else { u64::from(sectors) };
    let pointer = u64::from(pointer);
    if pointer == 0 || pointer >= sectors * SECTOR {
        return Ok(None);
    }
    let text = read_up_to(file, pointer + SECTOR, SECTOR)?;
    let word = text.split(|byte| *byte == b' ' || *byte == 0).next();
    Ok(word.and_then(banner::release))
}
