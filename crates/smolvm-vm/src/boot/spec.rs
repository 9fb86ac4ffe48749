//! What a machine is made of: its [`MachineSpec`], and what it starts with.

use std::os::fd::RawFd;

use super::{Boot, Origin};
use crate::accel::Accelerator;
use crate::assets::{KERNEL_FD, ROOTFS_FD};
use crate::backend::{self, Backend, Disk, MachineSpec, Nic, Variant};
use crate::disk::BaseUse;
use crate::endowment::{DISK_FD, Endowment, INITRD_FD, NETWORK_FD, QMP_FD};
use crate::error::VmError;
use crate::initrd::{Initrd, modules};
use crate::network::{Device, NetworkPlan, Uplink};

/// What an agent that starts from the disk is told of it.
pub(crate) const ON_DISK: &str = "root=/dev/vda\ninit=auto\nentered=1\ngrow=1\n";

/// The guest's network device, as the VMM is told of it.
fn nic(backend: Backend, device: &Device) -> Nic {
    let mac = device.mac.to_owned();
    match &device.uplink {
        Uplink::Tap { name } if backend == Backend::Firecracker => {
            Nic::NamedTap { name: (*name).to_owned(), mac }
        }
        Uplink::Filter { .. } => Nic::Stream { number: NETWORK_FD, mac },
        Uplink::Restricted => Nic::Restricted { mac },
        Uplink::Tap { .. } => Nic::Tap { number: NETWORK_FD, mac },
    }
}

impl Boot<'_> {
    /// Writes what the machine starts with: the agent, what it is told, and the drivers that the
    /// image's own initrd may lack.
    pub(super) fn write_initrd(&self) -> Result<(), VmError> {
        let rootfs = &self.assets.rootfs;
        let release = self.assets.kernel.release.as_deref();
        let modules = release.and_then(|release| {
            modules::from_rootfs(rootfs, release, modules::WANTED)
                .inspect_err(|reason| log::debug!("{}: {reason}", self.vm.id))
                .ok()
        });
        let record = &self.machine.record;
        let own = self.assets.initrd.as_deref().zip(record.initrd.as_deref());
        Initrd::new(self.assets.agent)
            .boot_file(self.boot_file())
            .modules(modules)
            .image_initrd(own)
            .write(&self.vm.dirs.initrd())?;
        Ok(())
    }

    /// The initrd, where a kernel is booted that unpacks one.
    pub(super) fn initrd(&self) -> Option<RawFd> {
        let has_none = self.assets.kernel.starts_from_disk() || self.is_restored();
        (!has_none).then_some(INITRD_FD)
    }

    /// What the VMM is started with.
    pub(super) fn endowment<'a>(&'a self, network: &'a NetworkPlan) -> Endowment<'a> {
        Endowment {
            record: &self.machine.record,
            dirs: &self.vm.dirs,
            has_kernel: !self.is_restored(),
            has_initrd: self.initrd().is_some(),
            accelerator: self.accelerator,
            vcpu_count: self.vcpu_count(),
            device: network.device.as_ref(),
        }
    }

    /// What the agent is told of the disks.
    fn boot_file(&self) -> String {
        let mut text = String::from("root=/dev/vda\ninit=auto\ngrow=1\n");
        if self.base_use() == BaseUse::ReadOnlyDisk {
            text.push_str("scratch=/dev/vdb\n");
        }
        text
    }

    fn base_use(&self) -> BaseUse {
        self.machine.record.disk.base_use()
    }

    fn disks(&self) -> Vec<Disk> {
        match self.base_use() {
            BaseUse::Unused => vec![Disk::raw(DISK_FD)],
            BaseUse::Backing => vec![Disk::over(DISK_FD, ROOTFS_FD)],
            BaseUse::ReadOnlyDisk => vec![Disk::read_only(ROOTFS_FD), Disk::raw(DISK_FD)],
        }
    }

    fn is_restored(&self) -> bool {
        matches!(self.origin, Origin::Snapshot(_))
    }

    pub(super) fn vcpu_count(&self) -> u32 {
        self.machine.record.vcpu_count.unwrap_or(match self.accelerator {
            Accelerator::Kvm => 2,
            Accelerator::Tcg => 1,
        })
    }

    pub(super) fn spec(&self, variant: Variant, network: &NetworkPlan) -> MachineSpec {
        let record = &self.machine.record;
        let architecture = self.assets.kernel.architecture;
        MachineSpec {
            variant,
            accelerator: self.accelerator,
            vcpu_count: self.vcpu_count(),
            mem_size_mib: record.mem_size_mib,
            kernel: KERNEL_FD,
            initrd: self.initrd(),
            command_line: backend::kernel_arguments(
                self.backend,
                architecture,
                self.accelerator,
                self.assets.kernel.starts_from_disk(),
                record.boot_args.as_deref(),
            ),
            disks: self.disks(),
            network: network.device.as_ref().map(|device| nic(self.backend, device)),
            nested_virtualization: record.nested_virtualization,
            vsock_cid: None,
            incoming: self.is_restored(),
            qmp_socket: QMP_FD,
        }
    }
}
