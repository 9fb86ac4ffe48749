//! Initrds that real kernels unpack.

use std::io::{Seek as _, SeekFrom, Write as _};
use std::process::{Command, Stdio};

use smolvm_testkit::skip;

use super::*;
use crate::kernel::Kernel;
use crate::kernel::tests::image_file;

fn written(initrd: &Initrd<'_>) -> Vec<u8> {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("initrd.img");
    initrd.write(&path).unwrap();
    fs_err::read(path).unwrap()
}

fn temporary(content: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content).unwrap();
    file
}

/// Bytes that the kernel would take for an initrd, as many as asked for.
fn own_initrd(length: usize) -> Vec<u8> {
    let mut bytes = b"070701".to_vec();
    bytes.resize(length, b'x');
    bytes
}

#[test]
fn the_images_initrd_comes_first_as_it_is_and_stays_where_it_was_read() {
    let alone = written(&Initrd::new(b"agent").boot_file("told"));
    for length in [600, 601, 602, 603] {
        let own = own_initrd(length);
        let mut file = temporary(&own);
        file.seek(SeekFrom::Start(7)).unwrap();
        let initrd = Initrd::new(b"agent").boot_file("told");
        let joined = written(&initrd.image_initrd(Some((&file, Path::new("own")))));
        let ours = joined.len() - alone.len();
        assert_eq!(ours % 4, 0);
        assert_eq!(joined[..length], own);
        assert!(joined[length..ours].iter().all(|byte| *byte == 0) && ours >= length + 4);
        assert_eq!(joined[ours..], alone);
        assert_eq!(file.stream_position().unwrap(), 7);
    }
}

#[test]
fn what_the_kernel_would_not_unpack_is_refused() {
    for content in [&b""[..], b"07", b"<html>", b"\x7fELF", &[0; 5000]] {
        let file = temporary(content);
        let initrd = Initrd::new(b"").image_initrd(Some((&file, Path::new("/images/initrd.img"))));
        let scratch = tempfile::tempdir().unwrap();
        let message = initrd.write(&scratch.path().join("initrd")).unwrap_err().to_string();
        assert!(message.starts_with("/images/initrd.img is not an initrd"), "{message}");
    }
}

#[test]
fn a_full_disk_is_said() {
    let error = Initrd::new(&vec![1; 100_000]).write(Path::new("/dev/full")).unwrap_err();
    assert!(error.to_string().starts_with("cannot write the initrd /dev/full: "), "{error}");
}

/// An agent that needs the image's initrd, for its shell, and ours, for all else.
const AGENT: &str = r#"#!/bin/busybox sh
busybox mount -t proc proc /proc
echo "agent: $(busybox cat /smolvm/boot)"
cd "/smolvm/modules/$(busybox uname -r)"
while IFS=: read -r module rest; do
    busybox insmod "$module" || echo "agent: cannot load $module"
done <modules.dep
while read -r module rest; do
    echo "agent: has $module"
done </proc/modules
echo "agent: null is $(busybox stat -c %t,%T,%a /dev/null)"
busybox poweroff -f
"#;

/// A kernel unpacks both initrds, ours over a compressed one that has the same file; and the
/// modules come out of the rootfs whole and in order, since the kernel checks them.
#[test]
fn a_kernel_unpacks_it_and_loads_its_modules() {
    let (Some(kernel_path), Some(own), Some(rootfs)) = (
        image_file("debian-tiny/vmlinuz"),
        image_file("debian-tiny/initrd.img"),
        image_file("debian-systemd/rootfs.ext4"),
    ) else {
        return;
    };
    let kernel = Kernel::recognise(&File::open(&kernel_path).unwrap(), &kernel_path).unwrap();
    let release = kernel.release.unwrap();
    let modules =
        modules::from_rootfs(&File::open(rootfs).unwrap(), &release, modules::WANTED).unwrap();
    assert_eq!(modules.missing, [""; 0]);

    let mut replaced = Archive::new(fs_err::read(own).unwrap());
    replaced.directory("smolvm").unwrap();
    replaced.file("smolvm/boot", 0o644, b"this should be replaced").unwrap();
    let own = temporary(&lz4(&replaced.finish().unwrap()));

    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("initrd.img");
    let expected: Vec<_> = modules.files.iter().map(|module| driver(&module.path)).collect();
    Initrd::new(AGENT.as_bytes())
        .boot_file("hello from the boot file")
        .modules(Some(modules))
        .image_initrd(Some((&own, Path::new("own"))))
        .write(&path)
        .unwrap();
    let Some(console) = boot(&kernel_path, &path) else { return };
    let said: Vec<_> = console.lines().filter_map(|line| line.split_once("agent: ")).collect();
    let said: Vec<_> = said.iter().map(|(_, said)| said.trim_end()).collect();
    assert_eq!(said.first(), Some(&"hello from the boot file"), "{console}");
    assert_eq!(said.last(), Some(&"null is 1,3,666"), "{console}");
    for driver in expected {
        assert!(said.contains(&&*format!("has {driver}")), "no {driver}: {console}");
    }
}

/// Data that lz4 has not made smaller, in the frame that kernels read. It is the only one whose end
/// has to be marked, unless its length happens to need padding: here it does not.
fn lz4(archive: &[u8]) -> Vec<u8> {
    let mut archive = archive.to_vec();
    loop {
        let length = archive.len() - 15;
        let rest = u8::try_from(length % 255).unwrap();
        let block = [&[0xf0], &*vec![255; length / 255], &[rest], &archive].concat();
        if block.len() % 4 == 0 {
            let size = u32::try_from(block.len()).unwrap();
            return [b"\x02\x21\x4c\x18", &size.to_le_bytes()[..], &block].concat();
        }
        archive.push(0);
    }
}

fn driver(path: &str) -> String {
    Path::new(path).file_stem().unwrap().to_str().unwrap().replace('-', "_")
}

/// Boots under emulation until the guest ends; what it printed.
fn boot(kernel: &Path, initrd: &Path) -> Option<String> {
    // An emulated clock cannot be calibrated; a kernel that tries may wait for ever.
    let clock = clock_khz().map(|khz| format!("tsc_early_khz={khz}")).unwrap_or_default();
    let arguments = format!("console=ttyS0 quiet panic=-1 rdinit=/smolvm/agent {clock}");
    // A guest that hangs is ended, and then fails the test by what it did not say.
    let qemu = Command::new("timeout")
        .args(["120", "qemu-system-x86_64", "-M", "microvm", "-accel", "tcg", "-cpu", "max"])
        .args(["-m", "256", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"])
        .args(["-serial", "stdio", "-append", &arguments, "-kernel"])
        .arg(kernel)
        .arg("-initrd")
        .arg(initrd)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    // What `timeout` says where there is no such program.
    if qemu.status.code() == Some(127) {
        skip("there is no qemu-system-x86_64");
        return None;
    }
    Some(String::from_utf8_lossy(&[qemu.stdout, qemu.stderr].concat()).into_owned())
}

fn clock_khz() -> Option<u64> {
    let cpuinfo = fs_err::read_to_string("/proc/cpuinfo").unwrap();
    let (_, rest) = cpuinfo.split_once("cpu MHz")?;
    let mhz: f64 = rest.lines().next()?.trim_start_matches([' ', '\t', ':']).parse().ok()?;
    format!("{:.0}", mhz * 1e3).parse().ok()
}
