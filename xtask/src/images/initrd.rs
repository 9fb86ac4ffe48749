//! The initial RAM disks: one with the drivers of a virtual machine's devices,
//! and one that also has busybox and a script that mounts the disk.

use std::path::Path;

use anyhow::Result;

use super::cpio;
use super::kernel::Kernel;
use super::modules::{self, Module};

/// What stands between the kernel and an ext4 file system on a virtio disk.
const DISK: &[&str] = &["virtio_mmio", "virtio_blk", "ext4"];

/// All devices that a virtual machine may have, and an overlay of two disks.
const DEVICES: &[&str] = &[
    "virtio_mmio",
    "virtio_pci",
    "virtio_blk",
    "virtio_console",
    "virtio_net",
    "virtio_rng",
    "vmw_vsock_virtio_transport",
    "vsock_loopback",
    "ext4",
    "overlay",
];

/// Writes an initial RAM disk that boots `kernel` into the system on its disk.
///
/// It is not compressed: taking it apart under emulation would take longer than
/// reading it.
pub(super) fn write(path: &Path, kernel: &Kernel, busybox: &Path) -> Result<()> {
    let modules = modules::load_order(&kernel.modules, DEVICES, busybox)?;
    let mut archive = cpio::Archive::new();
    for directory in ["dev", "proc", "root"] {
        archive.directory(directory);
    }
    // Where the kernel prints for the first process.
    archive.character_device("dev/console", 5, 1);
    archive.file("bin/busybox", 0o755, &fs_err::read(busybox)?);
    archive.file("init", 0o755, include_bytes!("initrd-init.sh"));
    let disk = modules::needed_for(&modules, DISK);
    let order: Vec<_> =
        disk.iter().map(|module| format!("/{}\n", path_in_guest(kernel, &module.path))).collect();
    archive.file("etc/modules-order", 0o644, order.concat().as_bytes());
    add_modules(&mut archive, kernel, &modules)?;
    Ok(fs_err::write(path, archive.finish())?)
}

/// Writes an initial RAM disk with the modules of `kernel` and nothing to run.
pub(super) fn write_modules(path: &Path, kernel: &Kernel, busybox: &Path) -> Result<()> {
    let modules = modules::load_order(&kernel.modules, DEVICES, busybox)?;
    let mut archive = cpio::Archive::new();
    add_modules(&mut archive, kernel, &modules)?;
    Ok(fs_err::write(path, archive.finish())?)
}

/// Adds modules as they lie on a disk: where modprobe(8) looks for them.
fn add_modules(archive: &mut cpio::Archive, kernel: &Kernel, modules: &[Module]) -> Result<()> {
    for module in modules {
        archive.file(&path_in_guest(kernel, &module.path), 0o644, &module.object);
    }
    let list = modules::dependency_list(modules);
    archive.file(&path_in_guest(kernel, "modules.dep"), 0o644, list.as_bytes());
    let built_in = fs_err::read(kernel.modules.join("modules.builtin"))?;
    archive.file(&path_in_guest(kernel, "modules.builtin"), 0o644, &built_in);
    Ok(())
}

fn path_in_guest(kernel: &Kernel, path: &str) -> String {
    format!("lib/modules/{}/{path}", kernel.release)
}
