//! Kernels that were made for the tests, and Debian's.

use std::env;
use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

use flate2::Compression;
use flate2::read::GzEncoder;
use proptest::prelude::*;
use smolvm_testkit::skip;

use super::*;

/// A file of an image that `cargo xtask images` made; `None` where there is none.
pub(crate) fn image_file(name: &str) -> Option<PathBuf> {
    let Some(images) = env::var_os("SMOLVM_TEST_IMAGES") else {
        skip("SMOLVM_TEST_IMAGES names no directory with images");
        return None;
    };
    Some(Path::new(&images).join(name))
}

fn recognise(bytes: &[u8]) -> Result<Kernel, KernelError> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    Kernel::recognise(&file, Path::new("/images/kernel"))
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

fn bzimage() -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    put(&mut bytes, 0, b"MZ");
    put(&mut bytes, 0x1f1, &[7]);
    put(&mut bytes, 0x1fe, &[0x55, 0xaa]);
    put(&mut bytes, 0x202, b"HdrS\x0f\x02");
    put(&mut bytes, 0x20e, &0x400_u16.to_le_bytes());
    put(&mut bytes, 0x211, &[1]);
    put(&mut bytes, 0x236, &[0x7f, 0]);
    put(&mut bytes, 0x600, b"6.1.0-9-cloud-amd64 (a@b) #1 SMP\0");
    bytes
}

/// Notes of Xen as every kernel has them, and the one of the PVH entry point.
fn notes(pvh: bool) -> Vec<u8> {
    let mut notes = Vec::new();
    for (kind, content) in [(6_u32, &b"linux\0"[..]), (if pvh { 18 } else { 17 }, &[0; 4])] {
        for number in [4, u32::try_from(content.len()).unwrap(), kind] {
            notes.extend_from_slice(&number.to_le_bytes());
        }
        notes.extend_from_slice(b"Xen\0");
        notes.extend_from_slice(content);
        notes.resize(notes.len().next_multiple_of(4), 0);
    }
    notes
}

fn elf(machine: u16, address: u64, notes: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 512];
    put(&mut bytes, 0, b"\x7fELF\x02\x01\x01");
    put(&mut bytes, 0x12, &machine.to_le_bytes());
    put(&mut bytes, 0x20, &64_u64.to_le_bytes());
    put(&mut bytes, 0x36, &[56, 0, 2, 0]);
    put(&mut bytes, 64, &1_u32.to_le_bytes());
    put(&mut bytes, 64 + 16, &address.to_le_bytes());
    put(&mut bytes, 64 + 56, &4_u32.to_le_bytes());
    put(&mut bytes, 64 + 56 + 8, &512_u64.to_le_bytes());
    put(&mut bytes, 64 + 56 + 32, &(notes.len() as u64).to_le_bytes());
    put(&mut bytes, 64 + 56 + 48, &4_u64.to_le_bytes());
    bytes.extend_from_slice(notes);
    bytes.extend_from_slice(b"\0Linux version 5.10.1 (a@b) #1\0retain_initrd\0");
    bytes
}

fn vmlinux(pvh: bool) -> Vec<u8> {
    elf(62, 0xffff_ffff_8100_0000, &notes(pvh))
}

fn arm64_image() -> Vec<u8> {
    let mut bytes = vec![0; 100];
    put(&mut bytes, 0, b"MZ");
    put(&mut bytes, 56, b"ARM\x64");
    bytes.extend_from_slice(b"\0Linux version 6.6.1-arm64 (a@b) #1\0retain_initrd\0");
    bytes
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    GzEncoder::new(bytes, Compression::fast()).read_to_end(&mut packed).unwrap();
    packed
}

/// Behaviour 29: each format is recognised by its header, with its architecture and release.
#[test]
fn kernels_are_recognised() {
    use Architecture::{Aarch64, X86_64};
    for (bytes, format, architecture, release, supports_initrd) in [
        (bzimage(), KernelFormat::BzImage, X86_64, "6.1.0-9-cloud-amd64", None),
        (vmlinux(true), KernelFormat::Elf { pvh: true }, X86_64, "5.10.1", Some(true)),
        (vmlinux(false), KernelFormat::Elf { pvh: false }, X86_64, "5.10.1", Some(true)),
        (arm64_image(), KernelFormat::Arm64Image, Aarch64, "6.6.1-arm64", Some(true)),
        (gzip(&arm64_image()), KernelFormat::Arm64ImageGzip, Aarch64, "6.6.1-arm64", Some(true)),
    ] {
        let path = PathBuf::from("/images/kernel");
        let release = Some(release.to_owned());
        let expected = Kernel { path, format, architecture, release, supports_initrd };
        assert_eq!(recognise(&bytes).unwrap(), expected);
    }
}

/// Behaviour 29: what is no kernel is refused by name, with what it is instead.
#[test]
fn other_files_are_called_what_they_are() {
    let mut ext4 = vec![0; 4096];
    put(&mut ext4, 1080, b"\x53\xef");
    let mut zboot = vec![0; 4096];
    put(&mut zboot, 0, b"MZ\0\0zimg");
    let mut old = bzimage();
    put(&mut old, 0x206, &[0x0b, 0x02]);
    let mut small = bzimage();
    put(&mut small, 0x236, &[0, 0]);
    let mut elf_32 = vmlinux(true);
    put(&mut elf_32, 4, &[1]);
    let program = elf(62, 0x0040_0000, b"");
    let other = elf(243, 0xffff_ffff_8100_0000, b"");
    let cut_off = gzip(&[arm64_image(), smolvm_testkit::content::noise(1, 99_999)].concat());
    for (bytes, said) in [
        (&b""[..], "it is an empty file"),
        (b"<!DOCTYPE html><title>404</title>", "it is an HTML or XML page"),
        (b"{\"error\": 404}", "it is a JSON document"),
        (b"#!/bin/sh\necho", "it is a script"),
        (b"hello\n", "it is a text file"),
        (b"\x01\x02\x03", "data of an unknown kind"),
        (&[0; 9000], "nothing but zeros"),
        (&ext4, "an ext4 file system"),
        (&gzip(b"something else"), "gzip data with something else"),
        (&cut_off[..90_000], "damaged or cut off"),
        (&bzimage()[..0x220], "cut off"),
        (&program, "a program or library"),
        (&vmlinux(true)[..100], "damaged"),
        (&zboot, "a compressed EFI kernel (zboot), which cannot be booted. Give the bzImage"),
        (&old, "a kernel older than Linux 3.8"),
        (&small, "a 32-bit kernel"),
        (&elf_32, "a 32-bit or big-endian ELF file"),
        (&other, "for a processor other than"),
    ] {
        let message = recognise(bytes).unwrap_err().to_string();
        assert!(message.contains(said), "{message}, not {said}");
        assert!(message.starts_with("/images/kernel is "), "{message}");
    }
}

/// Behaviour 29: the architecture and the way in are looked at before QEMU is.
#[test]
fn what_qemu_cannot_boot_is_refused() {
    let error = recognise(&elf(183, 1 << 63, b"")).unwrap().for_qemu().unwrap_err().to_string();
    assert!(error.contains("Give the Image of the same kernel"), "{error}");
    let image = arm64_image();
    for bytes in [bzimage(), vmlinux(true), vmlinux(false), gzip(&image), image] {
        recognise(&bytes).unwrap().for_qemu().unwrap();
    }
}

/// Behaviour 29: QEMU emulates other processors, Firecracker does not.
#[test]
fn firecracker_takes_kernels_for_this_host_alone() {
    let (x86_64, aarch64) = (Architecture::X86_64, Architecture::Aarch64);
    for (bytes, own, host) in [(bzimage(), x86_64, aarch64), (arm64_image(), aarch64, x86_64)] {
        let kernel = recognise(&bytes).unwrap();
        kernel.for_firecracker(own).unwrap();
        let error = kernel.for_firecracker(host).unwrap_err().to_string();
        assert!(error.contains(&format!("a kernel for {own}, but this host is {host}")), "{error}");
    }
}

#[test]
fn a_kernel_without_an_agent_is_refused_with_what_is_missing() {
    for bytes in [bzimage(), arm64_image()] {
        let kernel = recognise(&bytes).unwrap();
        match kernel.agent() {
            Ok(agent) => assert!(agent.starts_with(b"\x7fELF")),
            Err(error) => {
                assert_ne!(Some(kernel.architecture), Architecture::of_host());
                let remedy =
                    format!("rustup target add {}-unknown-linux-musl", kernel.architecture);
                assert!(error.to_string().contains(&remedy), "{error}");
            }
        }
    }
}

#[test]
fn a_kernel_that_unpacks_no_initrd_starts_from_the_disk() {
    let mut bytes = vmlinux(true);
    bytes.truncate(bytes.len() - 5);
    let kernel = recognise(&bytes).unwrap();
    assert!(kernel.starts_from_disk());
    for bytes in [vmlinux(true), bzimage()] {
        assert!(!recognise(&bytes).unwrap().starts_from_disk());
    }
}

#[test]
fn a_version_string_outside_of_the_header_is_not_followed() {
    for pointer in [0_u16, 7 * 512, u16::MAX] {
        let mut bytes = bzimage();
        put(&mut bytes, 0x20e, &pointer.to_le_bytes());
        assert_eq!(recognise(&bytes).unwrap().release, None);
    }
}

/// Behaviour 29: Debian's own kernel, packed and unpacked, and what QEMU says to the one that is
/// lacks its way in.
#[test]
fn debians_kernel_is_recognised_in_both_forms() {
    let Some(path) = image_file("debian-tiny/vmlinuz") else { return };
    let file = File::open(&path).unwrap();
    let packed = Kernel::recognise(&file, &path).unwrap();
    let release = packed.release.clone().unwrap();
    assert!(release.ends_with("-cloud-amd64"), "{release}");
    assert_eq!(packed.format, KernelFormat::BzImage);

    let mut bytes = Vec::new();
    payload::unpack(&file, &path, &mut bytes).unwrap();
    let unpacked = recognise(&bytes).unwrap();
    assert_eq!(unpacked.format, KernelFormat::Elf { pvh: true });
    assert_eq!(unpacked.release, packed.release);
    assert_eq!(unpacked.supports_initrd, Some(true));

    let note = [&[4, 0, 0, 0, 8, 0, 0, 0, 18, 0, 0, 0][..], b"Xen\0"].concat();
    let at = memchr::memmem::find(&bytes, &note).unwrap();
    bytes[at + 8] = 19;
    let stripped = recognise(&bytes).unwrap();
    assert_eq!(stripped.format, KernelFormat::Elf { pvh: false });
    stripped.for_qemu().unwrap();
    qemu_refuses(&bytes);
}

/// Else the way in that is made for it would not be needed any more.
fn qemu_refuses(kernel: &[u8]) {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs_err::write(file.path(), kernel).unwrap();
    let qemu = Command::new("qemu-system-x86_64")
        .args(["-M", "microvm", "-accel", "tcg", "-nodefaults", "-display", "none", "-kernel"])
        .arg(file.path())
        .stdin(Stdio::null())
        .output();
    let Ok(output) = qemu else { return skip("there is no qemu-system-x86_64") };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("PVH ELF Note"), "{said}");
}

proptest! {
    #[test]
    fn no_bytes_break_it(bytes in prop::collection::vec(any::<u8>(), 0..5000)) {
        let _ = recognise(&bytes);
    }

    #[test]
    fn no_damage_breaks_it(
        which in 0..5_usize,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        length in any::<prop::sample::Index>(),
    ) {
        let made = [bzimage, || vmlinux(true), || vmlinux(false), arm64_image, || {
            gzip(&arm64_image())
        }];
        let mut bytes = made[which]();
        for (at, byte) in damage {
            // Most of what is decided on lies in the first bytes.
            let at = at.index(bytes.len().min(0x260));
            bytes[at] = byte;
        }
        bytes.truncate(length.index(bytes.len() * 3).max(64));
        if let Ok(kernel) = recognise(&bytes) {
            let _ = kernel.for_qemu();
            prop_assert!(kernel.release.is_none_or(|release| !release.contains('/')));
        }
    }
}
