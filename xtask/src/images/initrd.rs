//! The initial RAM disk: busybox, the drivers of the disk, and a script that
//! mounts it.

use std::path::Path;

use anyhow::Result;

use super::kernel::Kernel;
use super::{cpio, modules};

/// What stands between the kernel and an ext4 file system on a virtio disk.
const DRIVERS: &[&str] = &["virtio_mmio", "virtio_blk", "ext4"];

/// Writes the initial RAM disk for `kernel`. It is not compressed: taking it
/// apart under emulation would take longer than reading it.
pub(super) fn write(path: &Path, kernel: &Kernel, busybox: &Path) -> Result<()> {
    let drivers = modules::load_order(&kernel.modules, DRIVERS, busybox)?;
    let order: Vec<_> = drivers.iter().map(|driver| driver.name.as_str()).collect();

    let mut archive = cpio::Archive::new();
    for directory in ["bin", "dev", "lib", "lib/modules", "proc", "root"] {
        archive.directory(directory);
    }
    // Where the kernel prints for the first process.
    archive.character_device("dev/console", 5, 1);
    archive.file("bin/busybox", 0o755, &fs_err::read(busybox)?);
    for driver in &drivers {
        archive.file(&format!("lib/modules/{}.ko", driver.name), 0o644, &driver.object);
    }
    archive.file("lib/modules/order", 0o644, format!("{}\n", order.join("\n")).as_bytes());
    archive.file("init", 0o755, include_bytes!("initrd-init.sh"));
    Ok(fs_err::write(path, archive.finish())?)
}
