//! Kernels in forms that QEMU does not boot by itself.

use std::io::Write as _;
use std::process::{Command, Stdio};

use smolvm_testkit::skip;
use smolvm_vm::Vm;

use super::images::{Image, Site, TINY};

/// Debian's kernel, unpacked by lz4: the payload, as `Documentation/arch/x86/boot.rst` has it,
/// without the size that the kernel's makefile adds. `None` where there is no lz4.
fn vmlinux(image: &Image) -> Option<Vec<u8>> {
    let bytes = fs_err::read(image.kernel()).unwrap();
    let number = |at: usize| u32::from_le_bytes(*bytes[at..].first_chunk().unwrap()) as usize;
    let start = (usize::from(bytes[0x1f1]) + 1) * 512 + number(0x248);
    let payload = bytes[start..][..number(0x24c) - 4].to_vec();
    let mut lz4 = Command::new("lz4");
    lz4.args(["-d", "-c"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let Ok(mut lz4) = lz4.spawn() else {
        skip("there is no lz4");
        return None;
    };
    let mut stdin = lz4.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(&payload));
    let unpacked = lz4.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(unpacked.status.success());
    Some(unpacked.stdout)
}

/// Kernels that were made for Firecracker are like that.
#[test]
fn an_elf_kernel_without_a_pvh_entry_boots_on_qemu() {
    let Some(image) = Image::find(TINY) else { return };
    let Some(mut kernel) = vmlinux(&image) else { return };
    let note = [&[4, 0, 0, 0, 8, 0, 0, 0, 18, 0, 0, 0][..], b"Xen\0"].concat();
    let at = kernel.windows(note.len()).position(|bytes| bytes == note).unwrap();
    kernel[at + 8] = 19;

    let site = Site::new();
    let path = site.temp.path().join("vmlinux.bin");
    fs_err::write(&path, kernel).unwrap();
    let config = smolvm_vm::VmConfig::new(&path, image.rootfs())
        .initrd(image.initrd().unwrap())
        .boot_args("a.word=of-the-image")
        .mem_size_mib(300)
        .vms_dir(site.vms_dir());
    for _ in 0..2 {
        let vm = Vm::boot(config.clone()).unwrap();
        assert!(vm.run("cat /proc/cmdline").unwrap().stdout().contains("a.word=of-the-image"));
        let memory = vm.run("sed -n 's/MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo").unwrap();
        let memory: u64 = memory.stdout().trim().parse().unwrap();
        assert!((230 << 10..=300 << 10).contains(&memory), "{memory} KiB");
    }
    let kept: Vec<_> = fs_err::read_dir(site.vms_dir().join(".kernels")).unwrap().collect();
    assert_eq!(kept.len(), 1);
}
