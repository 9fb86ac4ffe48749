//! The programs that run machines, and what they are told: a [`MachineSpec`] becomes the command
//! line of a VMM.

mod kernel_arguments;
mod machine;
pub(crate) mod qmp;
mod qemu;

pub(crate) use kernel_arguments::kernel_arguments;
pub(crate) use machine::{Disk, FileRef, Format, MachineSpec, Nic, Variant};
pub use qemu::QemuError;
pub(crate) use qemu::{Qemu, arguments};
