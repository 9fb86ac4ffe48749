//! The programs that run machines, and what they are told: a [`MachineSpec`] becomes the command
//! line of a VMM.

mod kernel_arguments;
mod machine;
mod qemu;
pub(crate) mod qmp;

pub(crate) use kernel_arguments::kernel_arguments;
pub(crate) use machine::{Disk, FileRef, MachineSpec, Nic, Variant};
pub use qemu::QemuError;
pub(crate) use qemu::{Qemu, arguments, in_path};
