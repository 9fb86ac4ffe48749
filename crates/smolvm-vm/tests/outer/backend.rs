//! Which program runs the machines of a test: QEMU, or, in a machine that has it, Firecracker.

use std::time::{Duration, Instant};

use smolvm_vm::{BackendChoice, Vm, VmConfig, VmError};

/// The variable that says so: `firecracker`.
pub(crate) const VARIABLE: &str = "SMOLVM_TEST_BACKEND";

/// The variable that names a directory with the kernels of all sites, which are made once then.
pub(crate) const KERNELS: &str = "SMOLVM_TEST_KERNELS";

/// Emulation within emulation.
const PATIENCE: Duration = Duration::from_mins(4);

/// The machine on the backend that is tested.
pub(crate) fn on_tested_backend(config: VmConfig) -> VmConfig {
    match std::env::var(VARIABLE).as_deref() {
        Ok("firecracker") => config.backend(BackendChoice::Firecracker).vcpu_count(1),
        _ => config,
    }
}

/// Boots it there.
pub(crate) fn boot(config: VmConfig) -> Result<Vm, VmError> {
    if std::env::var_os(VARIABLE).is_none() {
        return Vm::boot(config);
    }
    let started = Instant::now();
    let vm = Vm::boot_within(on_tested_backend(config), PATIENCE);
    println!("{:6.1} s: boot", started.elapsed().as_secs_f64());
    vm
}
