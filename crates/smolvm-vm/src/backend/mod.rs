//! The programs that run machines, and what they are told: a [`MachineSpec`] becomes the command
//! line of a VMM.

mod connect;
pub(crate) mod firecracker;
mod kernel_arguments;
mod machine;
mod qemu;
mod qmp;
mod version;
mod vmm;

pub(crate) use firecracker::Firecracker;
pub use firecracker::FirecrackerError;
pub(crate) use kernel_arguments::kernel_arguments;
pub(crate) use machine::{Disk, MachineSpec, Nic, Variant};
pub use qemu::QemuError;
pub(crate) use qemu::{Qemu, in_path};
pub(crate) use qmp::Qmp;
pub(crate) use version::Version;
pub(crate) use vmm::{Backend, Vmm};
