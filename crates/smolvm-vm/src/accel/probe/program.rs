//! What the probe's machine finds in its memory: a program that goes the way of every kernel, from
//! real mode over protected mode to long mode, and the tables that it needs (AMD64 Architecture
//! Programmer's Manual, volume 2, chapters 4, 5, 8 and 14).

/// The size of a page, in bytes.
const PAGE: usize = 4096;

/// The whole memory of the machine, which begins at address 0.
#[repr(C, align(4096))]
pub(super) struct Pages(pub(super) [u8; 4 * PAGE]);

/// The global descriptor table: the segments.
const GDT: usize = 0;
/// The interrupt descriptor table: the exception handlers.
const IDT: usize = 0x100;
/// Where the program begins, in real mode.
pub(super) const CODE: usize = 0x800;
const PROTECTED_MODE: usize = CODE + 0x20;
const LONG_MODE: usize = CODE + 0x70;
const HANDLER: usize = CODE + 0x90;
const GDT_POINTER: usize = CODE + 0xb0;
const IDT_POINTER: usize = CODE + 0xc0;
/// The end of the stack, which grows down towards the program.
pub(super) const STACK: usize = PAGE;
/// The page-map level 4 table: the root of the page tables.
const PML4: usize = PAGE;
const PAGE_DIRECTORY_POINTERS: usize = 2 * PAGE;
const PAGE_DIRECTORY: usize = 3 * PAGE;

/// The port that the program writes to.
pub(super) const PORT: u16 = 0xf4;

/// What the program writes before it halts: from real mode, from protected mode, from the
/// exception handler, and after it.
pub(super) const OUTPUT: &[u8] = b"RPEL";

const SEGMENTS: [u64; 4] = [
    0,
    // 0x08, code: present, for ring 0, 32-bit, execute and read, all of 4 GiB.
    0x00cf_9b00_0000_ffff,
    // 0x10, code: the same, 64-bit.
    0x00af_9b00_0000_ffff,
    // 0x18, data: present, for ring 0, 32-bit, read and write, all of 4 GiB.
    0x00cf_9300_0000_ffff,
];

/// The vector of the exception that `ud2` raises.
const INVALID_OPCODE: usize = 6;
/// Of an interrupt descriptor: present, for ring 0, a 64-bit interrupt gate to segment 0x10.
const INTERRUPT_GATE: u64 = 0x8e << 40 | 0x10 << 16;

/// Of an entry in a page table: present, writable.
const TABLE: u64 = 0b11;
/// Of an entry in a page directory: present, writable, and a page of 2 MiB instead of a table.
const LARGE_PAGE: u64 = 0b1000_0011;

const REAL_MODE_CODE: &[u8] = &[
    0xb0, b'R', // mov al, 'R'
    0xe6, 0xf4, // out 0xf4, al
    0x0f, 0x01, 0x16, 0xb0, 0x08, // lgdt [GDT_POINTER]
    0x0f, 0x20, 0xc0, // mov eax, cr0
    0x0c, 0x01, // or al, 1                    protection
    0x0f, 0x22, 0xc0, // mov cr0, eax
    0xea, 0x20, 0x08, 0x08, 0x00, // jmp 0x08:PROTECTED_MODE
];

/// The loop takes a processor a few milliseconds. A KVM that emulates what runs without paging, of
/// which every kernel's start has much, takes minutes.
const PROTECTED_MODE_CODE: &[u8] = &[
    0xb8, 0x18, 0x00, 0x00, 0x00, // mov eax, 0x18
    0x8e, 0xd8, // mov ds, eax
    0x8e, 0xd0, // mov ss, eax
    0xb9, 0x00, 0x00, 0x80, 0x00, // mov ecx, 0x800000
    0x49, // dec ecx
    0x75, 0xfd, // jnz                         back to dec, 8 million times
    0xb0, b'P', // mov al, 'P'
    0xe6, 0xf4, // out 0xf4, al
    0xb8, 0x00, 0x10, 0x00, 0x00, // mov eax, PML4
    0x0f, 0x22, 0xd8, // mov cr3, eax
    0xb8, 0x20, 0x00, 0x00, 0x00, // mov eax, 0x20    physical address extension
    0x0f, 0x22, 0xe0, // mov cr4, eax
    0xb9, 0x80, 0x00, 0x00, 0xc0, // mov ecx, 0xc0000080    the register EFER
    0x0f, 0x32, // rdmsr
    0x0d, 0x00, 0x01, 0x00, 0x00, // or eax, 0x100    long mode
    0x0f, 0x30, // wrmsr
    0x0f, 0x20, 0xc0, // mov eax, cr0
    0x0d, 0x00, 0x00, 0x00, 0x80, // or eax, 0x80000000    paging
    0x0f, 0x22, 0xc0, // mov cr0, eax
    0xea, 0x70, 0x08, 0x00, 0x00, 0x10, 0x00, // jmp 0x10:LONG_MODE
];

const LONG_MODE_CODE: &[u8] = &[
    0x0f, 0x01, 0x1c, 0x25, 0xc0, 0x08, 0x00, 0x00, // lidt [IDT_POINTER]
    0x0f, 0x0b, // ud2                         raise "invalid opcode"
    0xb0, b'L', // mov al, 'L'
    0xe6, 0xf4, // out 0xf4, al
    0xf4, // hlt
];

const HANDLER_CODE: &[u8] = &[
    0xb0, b'E', // mov al, 'E'
    0xe6, 0xf4, // out 0xf4, al
    0x48, 0x83, 0x04, 0x24, 0x02, // add qword ptr [rsp], 2    go on behind ud2
    0x48, 0xcf, // iretq
];

/// The memory of a machine that is about to run the program.
pub(super) fn pages() -> Box<Pages> {
    let mut pages = Box::new(Pages([0; _]));
    for (index, descriptor) in SEGMENTS.into_iter().enumerate() {
        pages.put_entry(GDT + index * 8, descriptor);
    }
    pages.put_pointer(GDT_POINTER, GDT, SEGMENTS.len() * 8);
    // Of the handler's address, the lowest 16 bits stand in the lowest of the gate; all others
    // are zero, as is the second half of the gate.
    pages.put_entry(IDT + INVALID_OPCODE * 16, INTERRUPT_GATE | HANDLER as u64);
    pages.put_pointer(IDT_POINTER, IDT, (INVALID_OPCODE + 1) * 16);
    pages.put_entry(PML4, PAGE_DIRECTORY_POINTERS as u64 | TABLE);
    pages.put_entry(PAGE_DIRECTORY_POINTERS, PAGE_DIRECTORY as u64 | TABLE);
    // The first 2 MiB of addresses are what they are without paging.
    pages.put_entry(PAGE_DIRECTORY, LARGE_PAGE);
    pages.put(CODE, REAL_MODE_CODE);
    pages.put(PROTECTED_MODE, PROTECTED_MODE_CODE);
    pages.put(LONG_MODE, LONG_MODE_CODE);
    pages.put(HANDLER, HANDLER_CODE);
    pages
}

impl Pages {
    fn put(&mut self, address: usize, bytes: &[u8]) {
        self.0[address..address + bytes.len()].copy_from_slice(bytes);
    }

    /// Puts an entry of a table of 8-byte entries.
    fn put_entry(&mut self, address: usize, entry: u64) {
        self.put(address, &entry.to_le_bytes());
    }

    /// Puts what `lgdt` and `lidt` read: the size of a table less one, and its address.
    fn put_pointer(&mut self, address: usize, table: usize, size: usize) {
        self.put(address, &(size - 1).to_le_bytes()[..2]);
        self.put(address + 2, &table.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_part_of_the_program_runs_into_the_next() {
        const {
            assert!(CODE + REAL_MODE_CODE.len() <= PROTECTED_MODE);
            assert!(PROTECTED_MODE + PROTECTED_MODE_CODE.len() <= LONG_MODE);
            assert!(LONG_MODE + LONG_MODE_CODE.len() <= HANDLER);
            assert!(HANDLER + HANDLER_CODE.len() <= GDT_POINTER);
            assert!(HANDLER < 1 << 16);
        }
    }

    #[test]
    fn the_addresses_in_the_program_are_those_of_its_parts() {
        let has = |code: &[u8], address: usize| {
            let address = u16::try_from(address).unwrap().to_le_bytes();
            code.windows(2).any(|bytes| bytes == address)
        };
        assert!(has(REAL_MODE_CODE, GDT_POINTER));
        assert!(has(REAL_MODE_CODE, PROTECTED_MODE));
        assert!(has(PROTECTED_MODE_CODE, PML4));
        assert!(has(PROTECTED_MODE_CODE, LONG_MODE));
        assert!(has(LONG_MODE_CODE, IDT_POINTER));
    }
}
