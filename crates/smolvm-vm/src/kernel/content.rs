//! What a file is that is no kernel, so that the message can name it.

use super::{Fields, Refusal};

/// What the bytes at a place of a file tell.
type Sign = (usize, &'static [u8], &'static str);

/// Kernels, but of kinds that no VMM here boots.
const UNSUPPORTED: &[(Sign, &str)] = &[
    (
        (4, b"zimg", "a compressed EFI kernel (zboot)"),
        "Give the bzImage or the Image of the same kernel",
    ),
    ((0x24, &[0x18, 0x28, 0x6f, 0x01], "a 32-bit ARM kernel"), "Give a 64-bit one"),
    ((0x30, b"RISCV\0\0\0", "a RISC-V kernel"), "Give one for this host"),
    ((0, &[0x27, 0x05, 0x19, 0x56], "a U-Boot image"), "Give the kernel inside it"),
];

const SIGNS: &[Sign] = &[
    (0, b"#!", "a script"),
    (0, b"MZ", "an EFI or Windows program"),
    (0, b"\x1f\x8b", "gzip data with something else than an arm64 Image inside"),
    (0, b"\xfd7zXZ\0", "xz data"),
    (0, b"(\xb5/\xfd", "zstd data"),
    (0, b"BZh", "bzip2 data"),
    (0, b"\x02\x21\x4c\x18", "lz4 data"),
    (0, b"\x04\x22\x4d\x18", "lz4 data"),
    (0, b"07070", "a cpio archive (an initrd?)"),
    (0, b"hsqs", "a squashfs file system (a rootfs?)"),
    (0, b"QFI\xfb", "a qcow2 disk"),
    (0, b"XFSB", "an XFS file system (a rootfs?)"),
    (257, b"ustar", "a tar archive"),
    (1024, b"\xe2\xe1\xf5\xe0", "an EROFS file system (a rootfs?)"),
    (1080, b"\x53\xef", "an ext4 file system (a rootfs?)"),
    (510, b"\x55\xaa", "a disk with a boot sector"),
];

/// Says what begins with `head`.
pub(super) fn refuse(head: &[u8]) -> Refusal {
    let fields = Fields(head);
    let unsupported = UNSUPPORTED.iter().find(|((at, bytes, _), _)| fields.has(*at, bytes));
    if let Some(((_, _, content), remedy)) = unsupported {
        return Refusal::Unsupported { content, remedy };
    }
    let sign = SIGNS.iter().find(|(at, bytes, _)| fields.has(*at, bytes));
    Refusal::NotAKernel(sign.map_or_else(|| text_or_data(head), |(_, _, content)| content))
}

fn text_or_data(head: &[u8]) -> &'static str {
    if head.is_empty() {
        return "an empty file";
    }
    if head.iter().all(|byte| *byte == 0) {
        return "nothing but zeros, as a download that was cut off may leave";
    }
    let is_control = |byte: &u8| byte.is_ascii_control() && !byte.is_ascii_whitespace();
    if head.iter().any(is_control) {
        return "data of an unknown kind";
    }
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    match text.first() {
        Some(b'<') => "an HTML or XML page, as a server sends in place of a file",
        Some(b'{' | b'[') => "a JSON document, as a server sends in place of a file",
        _ => "a text file",
    }
}
