//! Which drivers the machine's devices need, and the error for a device that is left without one.

use std::fs;
use std::path::{Path, PathBuf};

use super::console;
use super::devices::{self, SYSFS, VirtioKind};
use super::error::BootError;
use super::modules::{Missing, Modules};

/// A driver that may be a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Driver {
    pub(super) module: &'static str,
    /// What it is for, as in "no driver for …".
    pub(super) purpose: &'static str,
}

/// The drivers that the running kernel can have.
#[derive(Debug)]
pub(super) struct Drivers {
    modules: Modules,
    release: String,
}

const MEMORY: Driver = Driver { module: "virtio_mmio", purpose: "virtio devices in memory" };
const PCI: Driver = Driver { module: "virtio_pci", purpose: "virtio devices on PCI" };

/// What a guest is nothing without.
const DISK: (VirtioKind, Driver) =
    (VirtioKind::BLOCK, Driver { module: "virtio_blk", purpose: "the disk" });

/// The ways to the host, of which a guest needs one. A machine has one of them, or both.
const CHANNELS: &[(VirtioKind, Driver)] = &[
    (VirtioKind::CONSOLE, Driver { module: "virtio_console", purpose: "the host's channel" }),
    (VirtioKind::SOCKET, Driver { module: "vmw_vsock_virtio_transport", purpose: "vsock" }),
];

const OPTIONAL: &[(VirtioKind, Driver)] = &[
    (VirtioKind::NETWORK, Driver { module: "virtio_net", purpose: "the network device" }),
    (VirtioKind::ENTROPY, Driver { module: "virtio_rng", purpose: "the entropy device" }),
];

/// Loads the drivers of the devices that the machine has. It is not needed for what is built in.
pub(super) fn load() -> Result<Drivers, BootError> {
    let mut drivers = Drivers::find()?;
    drivers.load_transports()?;
    drivers.load_for(DISK.0, DISK.1)?;
    drivers.load_channels()?;
    for &(kind, driver) in OPTIONAL {
        if let Err(error) = drivers.load_for(kind, driver) {
            console::note(error);
        }
    }
    Ok(drivers)
}

impl Drivers {
    fn find() -> Result<Self, BootError> {
        let read = |path: &str| {
            let text = fs::read_to_string(path);
            text.map_err(|error| BootError::File(path.into(), error))
        };
        let release = read("/proc/sys/kernel/osrelease")?.trim().to_owned();
        // The image's own initrd first: its maker knew what this kernel needs.
        let directories =
            ["/lib/modules", "/smolvm/modules"].map(|path| PathBuf::from(path).join(&release));
        Ok(Self { modules: Modules::find(&directories, read("/proc/cmdline")?), release })
    }

    /// Loads what finds the devices themselves.
    fn load_transports(&mut self) -> Result<(), BootError> {
        let sysfs = Path::new(SYSFS);
        let on_pci = devices::has_virtio_on_pci(sysfs);
        let mut loaded = Ok(());
        if on_pci {
            loaded = self.load(PCI);
        }
        // Those that only the kernel's command line tells of are nowhere to be seen before.
        if !on_pci || devices::has_virtio_in_memory(sysfs) {
            loaded = loaded.and(self.load(MEMORY));
        }
        if devices::virtio_devices(sysfs).is_empty() { loaded } else { Ok(()) }
    }

    /// Loads the drivers of the ways to the host. That one of them has none is noted; that all have
    /// none is an error.
    fn load_channels(&mut self) -> Result<(), BootError> {
        let mut first = None;
        for &(kind, driver) in CHANNELS {
            if let Err(error) = self.load_for(kind, driver) {
                console::note(&error);
                first.get_or_insert(error);
            }
        }
        let devices = devices::virtio_devices(Path::new(SYSFS));
        let is_open = CHANNELS.iter().any(|(kind, _)| {
            devices.iter().any(|device| device.kind == *kind && device.has_driver)
        });
        first.filter(|_| !is_open).map_or(Ok(()), Err)
    }

    /// Loads `driver` if a device of this kind has none.
    fn load_for(&mut self, kind: VirtioKind, driver: Driver) -> Result<(), BootError> {
        let without_driver = || {
            let mut devices = devices::virtio_devices(Path::new(SYSFS)).into_iter();
            devices.any(|device| device.kind == kind && !device.has_driver)
        };
        if without_driver() { self.load(driver) } else { Ok(()) }
    }

    /// Loads the driver of a file system, if the kernel does not know it yet.
    pub(super) fn load_file_system(&mut self, driver: Driver) -> Result<(), BootError> {
        if FileSystems::now().contains(driver.module) { Ok(()) } else { self.load(driver) }
    }

    fn load(&mut self, driver: Driver) -> Result<(), BootError> {
        let error =
            |missing: Missing| BootError::Driver { driver, release: self.release.clone(), missing };
        self.modules.load(driver.module).map_err(error)
    }
}

/// What `/proc/filesystems` says: the file systems that the kernel knows by now.
#[derive(Debug)]
pub(super) struct FileSystems(String);

impl FileSystems {
    pub(super) fn now() -> Self {
        Self(fs::read_to_string("/proc/filesystems").unwrap_or_default())
    }

    fn contains(&self, name: &str) -> bool {
        self.0.lines().any(|line| line.split('\t').next_back() == Some(name))
    }

    /// Those that are on a device, in the kernel's order.
    pub(super) fn on_devices(&self) -> impl Iterator<Item = &str> {
        self.0.lines().filter_map(|line| line.strip_prefix('\t'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_on_devices_are_those_without_a_first_word() {
        let known = FileSystems("nodev\tsysfs\nnodev\toverlay\n\text3\n\text4\n".to_owned());
        assert!(known.contains("overlay") && known.contains("ext4"));
        assert!(!known.contains("nodev") && !known.contains("ext"));
        assert_eq!(known.on_devices().collect::<Vec<_>>(), ["ext3", "ext4"]);
    }
}
