//! A way for QEMU into ELF kernels that have none: kernels that were made for Firecracker lack the
//! PVH entry point by which QEMU starts an ELF file.
//!
//! Such a kernel is copied, and gets one more segment, with a [loader](loader::Loader), and a note
//! that names that as the PVH entry point. What was in the file stays as it is.

mod loader;

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

use self::loader::{LENGTH, Loader};
use super::elf::{COUNT, LOAD, NOTE, SEGMENT, Segment, TABLE, XEN, segments};
use super::{Fields, KernelError, PositionedReader, read_up_to};

const ENTRY: usize = 0x18;

/// What every PVH entry point's note has: the lengths of its name and content, its kind, its name.
const NOTE_HEAD: [u32; 3] = [4, 8, super::elf::PVH_ENTRY];

/// Where the loader may lie: where a PC has memory, one place for each MiB.
const PLACES: std::ops::Range<u32> = 1..64;

const PAGE: u64 = 4096;

/// Writes the ELF kernel `kernel`, with a PVH entry point, to `to`, an empty file. `path` is what
/// messages call it.
pub(super) fn add_entry(kernel: &File, path: &Path, to: &mut File) -> Result<(), KernelError> {
    let unreadable = |source| KernelError::Read { path: path.to_owned(), source };
    let head = read_up_to(kernel, 0, 64).map_err(unreadable)?;
    let segments = segments(Fields(&head), kernel).map_err(|refusal| refusal.of(path))?;
    let loader = place(Fields(&head), &segments)
        .ok_or_else(|| KernelError::NoWayIn { path: path.to_owned() })?;
    let written = write(kernel, &head, &loader, to);
    written.map_err(|source| KernelError::Unpack { path: path.to_owned(), source })
}

/// A loader, and where it is to be.
struct Placed {
    base: u32,
    loader: Loader,
}

/// Finds memory that the kernel's segments leave free, and the kernel's entry.
fn place(head: Fields<'_>, segments: &[Segment]) -> Option<Placed> {
    let loaded = || segments.iter().filter(|segment| segment.kind == LOAD);
    let entry = head.u64(ENTRY)?;
    let is_within = |segment: &&Segment, address, start: u64| {
        (start..start.saturating_add(segment.memory_size)).contains(&address)
    };
    // It is a physical address, as the kernel's linker script says, or a virtual one.
    let is_physical = loaded().any(|segment| is_within(&segment, entry, segment.physical));
    let entry = if is_physical {
        entry
    } else {
        let segment = loaded().find(|segment| is_within(segment, entry, segment.address))?;
        entry - segment.address + segment.physical
    };
    let is_free = |base: &u32| {
        let (start, end) = (u64::from(*base), u64::from(*base + LENGTH));
        loaded().all(|segment| {
            end <= segment.physical || segment.physical.saturating_add(segment.memory_size) <= start
        })
    };
    let base = PLACES.map(|mebibytes| mebibytes << 20).find(is_free)?;
    Some(Placed { base, loader: Loader::new(base, u32::try_from(entry).ok()?) })
}

/// The kernel's bytes, then the loader, the note, and the table of segments that has these two.
fn write(kernel: &File, head: &[u8], placed: &Placed, to: &mut File) -> io::Result<()> {
    let size = io::copy(&mut PositionedReader::new(kernel, 0), to)?;
    let loader = size.next_multiple_of(PAGE);
    to.set_len(loader)?;
    io::Seek::seek(to, io::SeekFrom::Start(loader))?;
    to.write_all(&placed.loader.bytes)?;

    let note = loader + u64::from(LENGTH);
    let mut bytes: Vec<u8> = NOTE_HEAD.iter().flat_map(|number| number.to_le_bytes()).collect();
    bytes.extend_from_slice(XEN);
    bytes.extend(u64::from(placed.base).to_le_bytes());
    to.write_all(&bytes)?;

    let table = note + bytes.len() as u64;
    let (offset, count) = (Fields(head).u64(TABLE), Fields(head).u16(COUNT));
    let (offset, count) = (offset.unwrap_or_default(), count.unwrap_or_default());
    let old = read_up_to(kernel, offset, u64::from(SEGMENT) * u64::from(count))?;
    to.write_all(&old)?;
    to.write_all(&header(LOAD, 7, loader, placed.base, LENGTH.into(), PAGE))?;
    to.write_all(&header(NOTE, 4, note, placed.base, bytes.len() as u64, 4))?;

    let mut head = head.to_vec();
    head[TABLE..TABLE + 8].copy_from_slice(&table.to_le_bytes());
    head[COUNT..COUNT + 2].copy_from_slice(&(count + 2).to_le_bytes());
    std::os::unix::fs::FileExt::write_all_at(to, &head, 0)
}

/// An entry of the table of segments.
fn header(kind: u32, flags: u32, offset: u64, base: u32, size: u64, alignment: u64) -> Vec<u8> {
    let numbers = [offset, base.into(), base.into(), size, size, alignment];
    let mut bytes = [kind.to_le_bytes(), flags.to_le_bytes()].concat();
    bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    bytes
}
