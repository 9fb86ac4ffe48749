//! The program that QEMU starts in a kernel's stead, and that starts the kernel: some forty
//! instructions, with all that they need filled in beforehand.
//!
//! QEMU enters it by the PVH protocol (`docs/misc/pvh.pandoc` of Xen): 32-bit protected mode, no
//! paging, EBX with the address of a `hvm_start_info`. It copies what that says into a
//! `boot_params`, switches to 64-bit mode, and enters the kernel by the 64-bit boot protocol
//! (`Documentation/arch/x86/boot.rst`): RSI with the address of the `boot_params`, the processor
//! in flat segments, memory mapped to itself.

/// The loader for one place in memory.
pub(super) struct Loader {
    /// What is to be at that place.
    pub(super) bytes: Vec<u8>,
}

/// Its length in bytes: pages for the program, `boot_params`, and the tables of pages.
pub(super) const LENGTH: u32 = TABLES + 6 * PAGE;

const PAGE: u32 = 4096;

// What lies where in it.
const GDT: u32 = 0x200;
const GDT_POINTER: u32 = 0x240;
const BOOT_PARAMS: u32 = PAGE;
const TABLES: u32 = 2 * PAGE;

// Fields of `boot_params` ("zero page", `Documentation/arch/x86/zero-page.rst`).
const RSDP: u32 = 0x70;
const E820_ENTRIES: u32 = 0x1e8;
const BOOT_FLAG: u32 = 0x1fe;
const HEADER: u32 = 0x202;
const VERSION: u32 = 0x206;
const LOADER_TYPE: u32 = 0x210;
const LOAD_FLAGS: u32 = 0x211;
const INITRD_ADDRESS: u32 = 0x218;
const INITRD_SIZE: u32 = 0x21c;
const COMMAND_LINE: u32 = 0x228;
const KERNEL_ALIGNMENT: u32 = 0x230;
const COMMAND_LINE_SIZE: u32 = 0x238;
const E820_TABLE: u32 = 0x2d0;

/// The segments that the boot protocol asks for: flat, 64-bit code as 0x10 and data as 0x18.
const SEGMENTS: [u64; 4] = [0, 0, 0x00af_9a00_0000_ffff, 0x00cf_9200_0000_ffff];

impl Loader {
    /// A loader to be put at `base`, a multiple of the size of a page, that enters the kernel at
    /// `entry`.
    pub(super) fn new(base: u32, entry: u32) -> Self {
        let mut loader = Self { bytes: vec![0; LENGTH as usize] };
        loader.put(0, &program(base, entry));
        for (number, segment) in (0..).zip(SEGMENTS) {
            loader.put(GDT + 8 * number, &segment.to_le_bytes());
        }
        loader.put(GDT_POINTER, &31_u16.to_le_bytes());
        loader.put(GDT_POINTER + 2, &(base + GDT).to_le_bytes());
        loader.fill_boot_params();
        loader.fill_tables(base);
        loader
    }

    /// What a boot loader says of itself, and cannot learn from QEMU.
    fn fill_boot_params(&mut self) {
        let fields: [(u32, &[u8]); 7] = [
            (BOOT_FLAG, &[0x55, 0xaa]),
            (HEADER, b"HdrS"),
            (VERSION, &[0x0f, 0x02]),
            // One without a number of its own.
            (LOADER_TYPE, &[0xff]),
            // The kernel lies above 1 MiB.
            (LOAD_FLAGS, &[1]),
            (KERNEL_ALIGNMENT, &0x0100_0000_u32.to_le_bytes()),
            (COMMAND_LINE_SIZE, &4095_u32.to_le_bytes()),
        ];
        for (field, bytes) in fields {
            self.put(BOOT_PARAMS + field, bytes);
        }
    }

    /// The first 4 GiB, mapped to themselves by pages of 2 MiB.
    fn fill_tables(&mut self, base: u32) {
        /// Present and writable; a page of its own, not another table.
        const TABLE: u64 = 3;
        const LARGE_PAGE: u64 = 0x83;
        let table = |number: u32| u64::from(base + TABLES + number * PAGE) | TABLE;
        self.put(TABLES, &table(1).to_le_bytes());
        for gibibyte in 0..4 {
            self.put(TABLES + PAGE + 8 * gibibyte, &table(2 + gibibyte).to_le_bytes());
        }
        for number in 0..4 * 512 {
            let page = u64::from(number) << 21 | LARGE_PAGE;
            self.put(TABLES + 2 * PAGE + 8 * number, &page.to_le_bytes());
        }
    }

    fn put(&mut self, at: u32, bytes: &[u8]) {
        let at = at as usize;
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

/// The instructions. After QEMU's fields of `hvm_start_info` (memory map: `+40`, entries: `+48`,
/// modules: `+12` and `+16`, command line: `+24`, RSDP: `+32`) nothing but registers is used.
fn program(base: u32, entry: u32) -> Vec<u8> {
    let mut code = Vec::new();
    let mut op = |opcode: &[u8], operand: Option<u32>| {
        code.extend_from_slice(opcode);
        code.extend(operand.into_iter().flat_map(u32::to_le_bytes));
    };
    let field = |field: u32| Some(base + BOOT_PARAMS + field);

    op(&[0xfc], None); //                                cld
    op(&[0x8b, 0x43, 0x18], None); //                    mov eax, [ebx + 24]
    op(&[0xa3], field(COMMAND_LINE)); //                 mov [command line], eax
    op(&[0x8b, 0x43, 0x20], None); //                    mov eax, [ebx + 32]
    op(&[0xa3], field(RSDP)); //                         mov [rsdp], eax
    op(&[0x83, 0x7b, 0x0c, 0x00], None); //              cmp dword ptr [ebx + 12], 0
    op(&[0x74, 0x12], None); //                          je map
    op(&[0x8b, 0x53, 0x10], None); //                    mov edx, [ebx + 16]
    op(&[0x8b, 0x02], None); //                          mov eax, [edx]
    op(&[0xa3], field(INITRD_ADDRESS)); //               mov [initrd address], eax
    op(&[0x8b, 0x42, 0x08], None); //                    mov eax, [edx + 8]
    op(&[0xa3], field(INITRD_SIZE)); //                  mov [initrd size], eax
    // map: an entry there has 24 bytes, of which the first 20 are an entry here
    op(&[0x8b, 0x4b, 0x30], None); //                    mov ecx, [ebx + 48]
    op(&[0x81, 0xf9], Some(128)); //                     cmp ecx, 128
    op(&[0x76, 0x05], None); //                          jbe few
    op(&[0xb9], Some(128)); //                           mov ecx, 128
    // few:
    op(&[0x88, 0x0d], field(E820_ENTRIES)); //           mov [e820 entries], cl
    op(&[0x8b, 0x73, 0x28], None); //                    mov esi, [ebx + 40]
    op(&[0xbf], field(E820_TABLE)); //                   mov edi, e820 table
    // next:
    op(&[0xe3, 0x0b], None); //                          jecxz done
    op(&[0xa5, 0xa5, 0xa5, 0xa5, 0xa5], None); //        movsd, five times
    op(&[0x83, 0xc6, 0x04], None); //                    add esi, 4
    op(&[0x49], None); //                                dec ecx
    op(&[0xeb, 0xf3], None); //                          jmp next
    // done: 64-bit mode is paging with PAE while EFER.LME is set
    op(&[0x0f, 0x20, 0xe0], None); //                    mov eax, cr4
    op(&[0x83, 0xc8, 0x20], None); //                    or eax, PAE
    op(&[0x0f, 0x22, 0xe0], None); //                    mov cr4, eax
    op(&[0xb8], Some(base + TABLES)); //                 mov eax, tables
    op(&[0x0f, 0x22, 0xd8], None); //                    mov cr3, eax
    op(&[0xb9], Some(0xc000_0080)); //                   mov ecx, EFER
    op(&[0x0f, 0x32], None); //                          rdmsr
    op(&[0x0d], Some(0x100)); //                         or eax, LME
    op(&[0x0f, 0x30], None); //                          wrmsr
    op(&[0x0f, 0x20, 0xc0], None); //                    mov eax, cr0
    op(&[0x0d], Some(0x8000_0000)); //                   or eax, PG
    op(&[0x0f, 0x22, 0xc0], None); //                    mov cr0, eax
    op(&[0x0f, 0x01, 0x15], Some(base + GDT_POINTER)); // lgdt [gdt pointer]
    op(&[0xea], Some(base + LONG_MODE)); //              jmp 0x10:long
    op(&[0x10, 0x00], None);
    // long:
    op(&[0xb8], Some(0x18)); //                          mov eax, 0x18
    op(&[0x8e, 0xd8], None); //                          mov ds, eax
    op(&[0x8e, 0xc0], None); //                          mov es, eax
    op(&[0x8e, 0xd0], None); //                          mov ss, eax
    op(&[0xbe], field(0)); //                            mov esi, boot_params
    op(&[0xb8], Some(entry)); //                         mov eax, entry
    op(&[0xff, 0xe0], None); //                          jmp rax
    code
}

/// Where the 64-bit instructions begin.
const LONG_MODE: u32 = 0x8c;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_jumps_lead_to_where_the_labels_are() {
        let code = program(0x10_0000, 0x0100_0000);
        // The far jump ends where it leads to, and the last instruction is the last.
        let long_mode = LONG_MODE as usize;
        assert_eq!(code[long_mode - 7], 0xea);
        assert_eq!(code[long_mode..long_mode + 5], [0xb8, 0x18, 0, 0, 0]);
        assert_eq!(code.len(), 0xa3);
        assert!(code.len() < GDT as usize);
        // `je map`, `jbe few`, `jecxz done` and `jmp next`, by what they skip.
        assert_eq!(code[0x17 + 0x12..][..3], [0x8b, 0x4b, 0x30]);
        assert_eq!(code[0x34 + 5..][..2], [0x88, 0x0d]);
        assert_eq!(code[0x49 + 0x0b..][..3], [0x0f, 0x20, 0xe0]);
        assert_eq!(code[0x54 - 13..][..2], [0xe3, 0x0b]);
    }

    #[test]
    fn four_gibibytes_are_mapped_to_themselves() {
        let base = 0x20_0000;
        let loader = Loader::new(base, 0x0100_0000);
        let entry = |at: u64| {
            let at = usize::try_from(at).unwrap();
            u64::from_le_bytes(*loader.bytes[at..].first_chunk().unwrap())
        };
        let within = |entry: u64| (entry & !0xfff) - u64::from(base);
        let top = u64::from(TABLES);
        for address in [0, 0x20_0000, 0x1234_5678, 0xffff_ffff_u64] {
            let third = within(entry(top));
            let second = within(entry(third + 8 * (address >> 30)));
            let page = entry(second + 8 * (address >> 21 & 511));
            assert_eq!((page & !0x1f_ffff, page & 0xff), (address & !0x1f_ffff, 0x83));
        }
    }
}
