//! The process beside each virtual machine, seen from the library: [`Supervisor`] starts it and
//! tells it what to do; [`status`] and [`remove`] are for machines that other programs own.
//!
//! The program itself is the crate `smolvm-supervisor`. It holds the machine's lock, its VMM and
//! the channel to its agent, and ends all of it when the process that started it is gone.

mod error;
pub(crate) mod executable;
mod leftovers;
mod link;
mod spawn;
mod status;
#[cfg(test)]
mod tests;

use std::os::fd::RawFd;

pub(crate) use smolvm_supervisor::control::{Access, How, Program, Setting};

pub use self::error::SupervisorError;
pub(crate) use self::leftovers::{Leftover, kill_vmm, leftover, remove, state_file, sweep};
pub(crate) use self::spawn::{Mode, Supervisor};
pub(crate) use self::status::{Status, session, status, vmm, wait_until_ended};

/// The number of the first file in the VMM.
pub(crate) const FIRST_FILE: RawFd = 10;
