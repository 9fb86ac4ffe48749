//! [`MachineSpec`]: a machine, as a VMM is to make it.

use std::os::fd::RawFd;

use serde::{Deserialize, Serialize};

use crate::accel::Accelerator;
use crate::disk::Format;
use crate::kernel::Architecture;

/// A machine, as a VMM is to make it. Files are numbers of descriptors, which a VMM inherits, or
/// whoever puts it into a jail with these files.
#[derive(Debug, Clone)]
pub(crate) struct MachineSpec {
    pub(crate) variant: Variant,
    pub(crate) accelerator: Accelerator,
    pub(crate) vcpu_count: u32,
    pub(crate) mem_size_mib: u32,
    pub(crate) kernel: RawFd,
    pub(crate) initrd: Option<RawFd>,
    /// What the kernel is told.
    pub(crate) command_line: String,
    /// In the order in which the guest sees them: `/dev/vda` first.
    pub(crate) disks: Vec<Disk>,
    pub(crate) network: Option<Nic>,
    /// Whether the guest may run virtual machines itself.
    pub(crate) nested_virtualization: bool,
    /// The address on vsock, where the host has it.
    pub(crate) vsock_cid: Option<u32>,
    /// Whether it goes on from a snapshot: then it boots nothing, and is given what it is to be
    /// when it has been made.
    pub(crate) incoming: bool,
    /// The descriptor of the socket on which QEMU listens for what it is told while it runs.
    pub(crate) qmp_socket: RawFd,
}

/// The kinds of machine, in the order in which they are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Variant {
    /// Few devices, on virtio-mmio, told to the kernel by ACPI.
    Microvm,
    /// The same, for kernels that take the devices from their command line alone.
    MicrovmWithoutAcpi,
    /// A PC with a PCI bus, for kernels that have no virtio-mmio.
    Q35,
    /// QEMU's own machine for arm64.
    Virt,
}

/// A disk.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    pub(crate) format: Format,
    pub(crate) file: RawFd,
    /// For qcow2: the raw file with all that this one does not hold.
    pub(crate) backing: Option<RawFd>,
    pub(crate) read_only: bool,
}

/// What the guest's network device is connected to.
#[derive(Debug, Clone)]
pub(crate) enum Nic {
    /// A program at the other end of the socket that the VMM has as a descriptor of this number,
    /// which takes Ethernet frames, such as passt.
    Stream { number: RawFd, mac: String },
    /// The VMM's own network, which leads nowhere.
    Restricted { mac: String },
    /// A tap device that the VMM has as a descriptor of this number.
    Tap { number: RawFd, mac: String },
    /// A tap device of this name, which is there and which the VMM opens.
    NamedTap { name: String, mac: String },
}

impl Disk {
    /// A disk that holds all that it is.
    pub(crate) fn raw(file: RawFd) -> Self {
        Self { format: Format::Raw, file, backing: None, read_only: false }
    }

    /// The same, which the guest cannot write to.
    pub(crate) fn read_only(file: RawFd) -> Self {
        Self { read_only: true, ..Self::raw(file) }
    }

    /// A qcow2 file with what differs from a raw one.
    pub(crate) fn over(file: RawFd, backing: RawFd) -> Self {
        Self { format: Format::Qcow2, backing: Some(backing), ..Self::raw(file) }
    }
}

impl Variant {
    /// The kinds to try for a kernel of this architecture.
    pub(crate) fn all_for(architecture: Architecture) -> &'static [Self] {
        match architecture {
            Architecture::X86_64 => &[Self::Microvm, Self::MicrovmWithoutAcpi, Self::Q35],
            Architecture::Aarch64 => &[Self::Virt],
        }
    }
}
