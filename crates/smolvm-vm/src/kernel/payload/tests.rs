//! bzImages made here, packed by the programs that kernels are packed with, and Debian's own.

use std::env;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use smolvm_testkit::skip;

use super::*;

/// Where the payload begins in what [`bzimage`] makes.
const SETUP: usize = 5 * 512;

/// A bzImage with this payload.
fn bzimage(payload: &[u8]) -> Vec<u8> {
    let mut image = vec![0; SETUP];
    image[SETUP_SECTORS] = 4;
    image[PAYLOAD_LENGTH..PAYLOAD_LENGTH + 4]
        .copy_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
    image.extend_from_slice(payload);
    image.extend_from_slice(b"what follows is no part of it");
    image
}

/// A bzImage with `vmlinux` as it is.
pub(in crate::kernel) fn bzimage_of(vmlinux: &[u8]) -> Vec<u8> {
    bzimage(vmlinux)
}

fn unpacked(image: &[u8]) -> Result<Vec<u8>, String> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(image).unwrap();
    let mut vmlinux = Vec::new();
    let result = unpack(&file, Path::new("/images/vmlinuz"), &mut vmlinux);
    result.map(|()| vmlinux).map_err(|error| error.to_string())
}

/// Larger than a block of lz4 data, and only half of it can be packed.
fn vmlinux() -> Vec<u8> {
    let mut state = 1_u32;
    let noise = (0..5 << 20).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    });
    let mut vmlinux = b"\x7fELF".to_vec();
    vmlinux.extend(noise);
    vmlinux.resize(10 << 20, 7);
    vmlinux
}

/// Has a program pack the bytes; `None` where it is not there.
fn pack(program: &[&str], bytes: &[u8]) -> Option<Vec<u8>> {
    let mut command = Command::new(program[0]);
    command.args(&program[1..]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let Ok(mut child) = command.spawn() else {
        skip(&format!("there is no {}", program[0]));
        return None;
    };
    let mut input = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || input.write_all(bytes).unwrap());
        child.wait_with_output().unwrap()
    });
    assert!(output.status.success());
    Some(output.stdout)
}

/// As the kernel's `scripts/Makefile.lib` packs it.
fn with_size(mut packed: Vec<u8>, vmlinux: &[u8]) -> Vec<u8> {
    packed.extend(u32::try_from(vmlinux.len()).unwrap().to_le_bytes());
    packed
}

#[test]
fn a_kernel_is_unpacked_whatever_it_is_packed_with() {
    let vmlinux = vmlinux();
    let programs: &[&[&str]] = &[
        &["xz", "--check=crc32", "--x86", "--lzma2=dict=32MiB"],
        &["xz", "--format=lzma", "-1"],
        &["zstd", "-19", "--long=27"],
        &["lz4", "-l"],
        &["bzip2"],
    ];
    for program in programs {
        let Some(packed) = pack(program, &vmlinux) else { continue };
        let image = bzimage(&with_size(packed, &vmlinux));
        assert!(unpacked(&image).unwrap() == vmlinux, "{program:?}");
    }
    if let Some(packed) = pack(&["gzip", "-n"], &vmlinux) {
        assert!(unpacked(&bzimage(&packed)).unwrap() == vmlinux);
    }
    assert!(unpacked(&bzimage(&vmlinux)).unwrap() == vmlinux);
}

/// A small file that unpacks to more than it says is given up, and one that says too much is not
/// even begun.
#[test]
fn a_bomb_is_not_unpacked() {
    let zeros = vec![0; 64 << 20];
    let Some(packed) = pack(&["gzip", "-n"], &zeros) else { return };
    let size = packed.len();
    let mut modest = packed.clone();
    modest[size - 4..].copy_from_slice(&1000_u32.to_le_bytes());
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&bzimage(&modest)).unwrap();
    let mut written = Vec::new();
    assert!(unpack(&file, Path::new("k"), &mut written).is_err());
    assert!(written.len() <= 512 << 10, "{}", written.len());

    let mut immodest = packed;
    immodest[size - 4..].copy_from_slice(&u32::MAX.to_le_bytes());
    let error = unpacked(&bzimage(&immodest)).unwrap_err();
    assert!(error.contains("unpacks to 4294967295 bytes"), "{error}");
}

#[test]
fn what_is_damaged_is_refused_with_the_reason() {
    let refused = |image: &[u8], reason: &str| {
        let error = unpacked(image).unwrap_err();
        assert!(error.contains(reason), "{error}");
        assert!(error.contains("/images/vmlinuz") && error.contains("Give the ELF kernel"));
    };
    refused(&[], "names no payload");
    refused(&bzimage(b"nothing known"), "packed in a way other than");
    refused(&bzimage(b"\x02\x21\x4c\x18\xff\xff\xff\xff\x01\0\0\0\0"), "too long");
    for magic in [&b"\x1f\x8b"[..], b"\xfd7zXZ\0", b"\x5d\0\0", b"\x28\xb5\x2f\xfd", b"BZh"] {
        let image = bzimage(&[magic, &[0x55; 200]].concat());
        assert!(unpacked(&image).is_err(), "{}", magic.escape_ascii());
    }
    // A header may name any place.
    let mut image = bzimage(b"\x7fELF and more");
    image[PAYLOAD_OFFSET..PAYLOAD_OFFSET + 4].fill(0xff);
    refused(&image, "packed in a way other than");
}

#[test]
fn debians_kernel_is_unpacked() {
    let Some(images) = env::var_os("SMOLVM_TEST_IMAGES") else {
        skip("SMOLVM_TEST_IMAGES names no directory with images");
        return;
    };
    let path = Path::new(&images).join("debian-tiny/vmlinuz");
    let mut vmlinux = tempfile::tempfile().unwrap();
    unpack(&File::open(&path).unwrap(), &path, &mut vmlinux).unwrap();
    let kernel = crate::kernel::Kernel::recognise(&vmlinux, &path).unwrap();
    assert!(matches!(kernel.format, crate::kernel::KernelFormat::Elf { pvh: true }));
    assert_eq!(kernel.supports_initrd, Some(true));
    assert!(kernel.release.unwrap().ends_with("-cloud-amd64"));
}
