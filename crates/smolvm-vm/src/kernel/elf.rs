//! The uncompressed kernel, an ELF file (`vmlinux`), and the note in it that names its PVH entry
//! point (`XEN_ELFNOTE_PHYS32_ENTRY` of Xen's public header `elfnote.h`).

use std::fs::File;
use std::io;

use super::banner::Banner;
use super::{Architecture, Fields, Header, KernelFormat, PositionedReader, Refusal, read_up_to};

const CLASS: usize = 4;
const DATA: usize = 5;
const MACHINE: usize = 0x12;
pub(super) const TABLE: usize = 0x20;
const ENTRY_SIZE: usize = 0x36;
pub(super) const COUNT: usize = 0x38;

const CLASS_64: u8 = 2;
const LITTLE_ENDIAN: u8 = 1;
const MACHINE_X86_64: u16 = 62;
const MACHINE_AARCH64: u16 = 183;

/// The size of an entry in the table of segments of a 64-bit file.
pub(super) const SEGMENT: u16 = 56;
pub(super) const LOAD: u32 = 1;
pub(super) const NOTE: u32 = 4;

/// Kernels have five segments or so, and notes of some hundred bytes.
const MOST_SEGMENTS: u16 = 64;
const MOST_NOTES: u64 = 1 << 20;

pub(super) const XEN: &[u8] = b"Xen\0";
pub(super) const PVH_ENTRY: u32 = 18;

/// A part of the file that is loaded or read as a whole.
pub(super) struct Segment {
    pub(super) kind: u32,
    offset: u64,
    /// Where it is to be: for the kernel itself, and for who loads it.
    pub(super) address: u64,
    pub(super) physical: u64,
    size: u64,
    pub(super) memory_size: u64,
    alignment: u64,
}

/// The header, where the file is an ELF file.
pub(super) fn read(head: &[u8], file: &File) -> Result<Option<Header>, Refusal> {
    let fields = Fields(head);
    if !fields.has(0, b"\x7fELF") {
        return Ok(None);
    }
    let segments = segments(fields, file)?;
    let pvh = has_pvh_entry(&segments, file)?;
    // Kernels live in the upper half of the address space, where no program can.
    let is_high = |segment: &Segment| segment.kind == LOAD && segment.address >> 63 == 1;
    if !pvh && !segments.iter().any(is_high) {
        return Err(Refusal::NotAKernel("an ELF file, but a program or library"));
    }
    let architecture = architecture(fields)?;
    let banner = Banner::search(PositionedReader::new(file, 0))?;
    Ok(Some(Header { format: KernelFormat::Elf { pvh }, architecture, banner }))
}

fn architecture(fields: Fields<'_>) -> Result<Architecture, Refusal> {
    match fields.u16(MACHINE) {
        Some(MACHINE_X86_64) => Ok(Architecture::X86_64),
        Some(MACHINE_AARCH64) => Ok(Architecture::Aarch64),
        _ => Err(Refusal::Unsupported {
            content: "a kernel for a processor other than x86_64 and aarch64",
            remedy: "Give one for this host",
        }),
    }
}

pub(super) fn segments(fields: Fields<'_>, file: &File) -> Result<Vec<Segment>, Refusal> {
    let cut_off = || Refusal::NotAKernel("a damaged ELF file");
    if fields.u8(CLASS) != Some(CLASS_64) || fields.u8(DATA) != Some(LITTLE_ENDIAN) {
        return Err(Refusal::Unsupported {
            content: "a 32-bit or big-endian ELF file",
            remedy: "Give a kernel for this host",
        });
    }
    let offset = fields.u64(TABLE).ok_or_else(cut_off)?;
    let count = fields.u16(COUNT).ok_or_else(cut_off)?;
    if fields.u16(ENTRY_SIZE) != Some(SEGMENT) && count != 0 || count > MOST_SEGMENTS {
        return Err(cut_off());
    }
    let table = read_up_to(file, offset, u64::from(SEGMENT) * u64::from(count))?;
    let segments: Option<Vec<_>> =
        table.chunks(usize::from(SEGMENT)).map(|entry| Segment::parse(Fields(entry))).collect();
    segments.filter(|segments| segments.len() == usize::from(count)).ok_or_else(cut_off)
}

impl Segment {
    fn parse(entry: Fields<'_>) -> Option<Self> {
        Some(Self {
            kind: entry.u32(0)?,
            offset: entry.u64(8)?,
            address: entry.u64(16)?,
            physical: entry.u64(24)?,
            size: entry.u64(32)?,
            memory_size: entry.u64(40)?,
            alignment: entry.u64(48)?,
        })
    }
}

fn has_pvh_entry(segments: &[Segment], file: &File) -> io::Result<bool> {
    for segment in segments.iter().filter(|segment| segment.kind == NOTE) {
        let notes = read_up_to(file, segment.offset, segment.size.min(MOST_NOTES))?;
        // What the alignment of the segment says is how QEMU steps through the notes.
        let alignment = if segment.alignment == 8 { 8 } else { 4 };
        if find_pvh_entry(&notes, alignment).unwrap_or(false) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Walks the notes; `None` where they end in the middle of one.
fn find_pvh_entry(notes: &[u8], alignment: usize) -> Option<bool> {
    const HEADER: usize = 12;
    let mut rest = notes;
    while rest.len() >= HEADER {
        let fields = Fields(rest);
        let name_size = usize::try_from(fields.u32(0)?).ok()?;
        let content_size = usize::try_from(fields.u32(4)?).ok()?;
        if fields.u32(8)? == PVH_ENTRY && name_size == XEN.len() && fields.has(HEADER, XEN) {
            return Some(true);
        }
        let content = HEADER.checked_add(name_size)?.checked_next_multiple_of(alignment)?;
        let next = content.checked_add(content_size)?.checked_next_multiple_of(alignment)?;
        rest = rest.get(next..)?;
    }
    Some(false)
}
