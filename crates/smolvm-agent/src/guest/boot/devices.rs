//! The devices of the machine, as the kernel's sysfs shows them.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// Where sysfs is mounted.
pub(super) const SYSFS: &str = "/sys";

/// The number of a kind of virtio device (Virtual I/O Device specification 1.2, section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct VirtioKind(pub(super) u32);

impl VirtioKind {
    pub(super) const NETWORK: Self = Self(1);
    pub(super) const BLOCK: Self = Self(2);
    pub(super) const CONSOLE: Self = Self(3);
    pub(super) const ENTROPY: Self = Self(4);
    pub(super) const SOCKET: Self = Self(19);
}

/// A virtio device that a transport has found.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct VirtioDevice {
    pub(super) kind: VirtioKind,
    /// Whether a driver has taken it.
    pub(super) has_driver: bool,
}

/// All virtio devices of the machine.
pub(super) fn virtio_devices(sysfs: &Path) -> Vec<VirtioDevice> {
    let mut devices = Vec::new();
    for entry in entries(&sysfs.join("bus/virtio/devices")) {
        let number = fs::read_to_string(entry.join("device")).unwrap_or_default();
        let Some(number) = parse_hexadecimal(&number) else { continue };
        let has_driver = entry.join("driver").exists();
        devices.push(VirtioDevice { kind: VirtioKind(number), has_driver });
    }
    devices
}

/// Whether there are virtio devices on a PCI bus.
pub(super) fn has_virtio_on_pci(sysfs: &Path) -> bool {
    const RED_HAT: u32 = 0x1af4;
    let mut functions = entries(&sysfs.join("bus/pci/devices"));
    functions.any(|function| {
        let vendor = fs::read_to_string(function.join("vendor")).unwrap_or_default();
        parse_hexadecimal(&vendor) == Some(RED_HAT)
    })
}

/// Whether the firmware tells of virtio devices in memory, by ACPI or by a device tree.
pub(super) fn has_virtio_in_memory(sysfs: &Path) -> bool {
    let mut devices = entries(&sysfs.join("bus/platform/devices"));
    devices.any(|device| {
        let name = device.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.starts_with("LNRO0005:") || name.ends_with(".virtio_mmio")
    })
}

/// The paths of all disks.
pub(super) fn disks(sysfs: &Path) -> Vec<String> {
    let mut disks: Vec<_> = entries(&sysfs.join("block"))
        .filter_map(|disk| Some(format!("/dev/{}", disk.file_name()?.to_string_lossy())))
        .collect();
    disks.sort();
    disks
}

/// Waits for a file that the kernel makes when it has found a device; whether it is there.
pub(super) fn wait_for(path: &Path, deadline: Duration) -> bool {
    /// Most drivers are done when they are loaded; for the others, a millisecond is short.
    const INTERVAL: Duration = Duration::from_millis(1);
    let started = Instant::now();
    while !path.exists() {
        if started.elapsed() > deadline {
            return false;
        }
        thread::sleep(INTERVAL);
    }
    true
}

fn entries(directory: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path())
}

fn parse_hexadecimal(text: &str) -> Option<u32> {
    u32::from_str_radix(text.trim().strip_prefix("0x")?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn virtio_devices_are_told_by_their_numbers() {
        let sysfs = tempfile::tempdir().unwrap();
        let device = sysfs.path().join("bus/virtio/devices/virtio0");
        write(&device.join("device"), "0x0013\n");
        assert_eq!(
            virtio_devices(sysfs.path()),
            [VirtioDevice { kind: VirtioKind::SOCKET, has_driver: false }]
        );
        fs::create_dir(device.join("driver")).unwrap();
        assert!(virtio_devices(sysfs.path())[0].has_driver);
    }

    #[test]
    fn transports_are_told_by_what_the_firmware_shows() {
        let sysfs = tempfile::tempdir().unwrap();
        assert!(!has_virtio_on_pci(sysfs.path()) && !has_virtio_in_memory(sysfs.path()));
        write(&sysfs.path().join("bus/pci/devices/0000:00:00.0/vendor"), "0x8086\n");
        assert!(!has_virtio_on_pci(sysfs.path()));
        write(&sysfs.path().join("bus/pci/devices/0000:00:01.0/vendor"), "0x1af4\n");
        assert!(has_virtio_on_pci(sysfs.path()));
        write(&sysfs.path().join("bus/platform/devices/a003e00.virtio_mmio/x"), "");
        assert!(has_virtio_in_memory(sysfs.path()));
    }

    #[test]
    fn what_does_not_show_up_is_given_up() {
        let directory = tempfile::tempdir().unwrap();
        assert!(wait_for(directory.path(), Duration::ZERO));
        assert!(!wait_for(&directory.path().join("vda"), Duration::from_millis(5)));
    }
}
