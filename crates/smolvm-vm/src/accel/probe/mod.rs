//! A guest of a few instructions in long mode, which shows whether KVM really runs guest code.
//!
//! On some hosts `/dev/kvm` opens, makes machines and even halts one in real mode, and yet no
//! kernel boots there. So the guest goes the way of every kernel, from real mode over protected mode
//! to long mode with paging, takes an exception through its interrupt table, and writes to a port
//! from the handler.

#[cfg(target_arch = "x86_64")]
mod guest_memory;
#[cfg(target_arch = "x86_64")]
mod machine;
#[cfg(target_arch = "x86_64")]
mod program;

use std::time::Duration;

use super::obstacle::ProbeFailure;

/// The guest takes a processor some milliseconds, and an emulated one some hundred.
const LIMIT: Duration = Duration::from_secs(2);

/// Runs the guest and waits for it to end, for [`LIMIT`] at most.
#[cfg(target_arch = "x86_64")]
pub(super) fn run() -> Result<(), ProbeFailure> {
    machine::run(program::pages(), LIMIT)
}

/// Makes a machine without running it: only on x86 have hosts been met whose KVM opens and runs
/// nothing.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn run() -> Result<(), ProbeFailure> {
    let setup = |error: kvm_ioctls::Error| ProbeFailure::Setup {
        step: "make a machine",
        reason: error.to_string(),
    };
    kvm_ioctls::Kvm::new().and_then(|kvm| kvm.create_vm()).map(drop).map_err(setup)
}
