//! The end of a virtual machine: in order, by force, for good.

use std::time::{Duration, Instant};

use smolvm_protocol::PowerOff;

use crate::backend::Backend;
use crate::error::VmError;
use crate::session::Session;
use crate::supervisor;
use crate::vm::{Machine, SmolVm};

/// How long a VMM may take to end once it was told to.
const QUIT: Duration = Duration::from_secs(2);

/// Ends a running machine: the agent is asked first, which has the guest end in order; then the
/// VMM; then nobody is asked any more.
pub(crate) fn stop(
    vm: &SmolVm,
    machine: &Machine,
    session: Option<&Session>,
    timeout: Duration,
) -> Result<(), VmError> {
    let backend = Backend::of(machine.record.backend);
    let deadline = Instant::now() + timeout;
    let asked = session.is_some_and(|session| session.power_off(PowerOff::Orderly).is_ok())
        // Some guests listen to the power button.
        || backend.press_button(&vm.dirs, deadline);
    if asked && supervisor::wait_until_ended(&vm.dirs.state, deadline) {
        return Ok(());
    }
    let deadline = Instant::now() + QUIT;
    if backend.quit(&vm.dirs, deadline) && supervisor::wait_until_ended(&vm.dirs.state, deadline) {
        return Ok(());
    }
    let killed = match &machine.supervisor {
        Some(supervisor) => supervisor.kill(),
        None => supervisor::kill_vmm(&vm.dirs.state),
    };
    killed.map_err(|source| VmError::Supervisor { id: vm.id.to_string(), source })
}

/// Ends a machine at once and removes what it had.
pub(crate) fn delete(vm: &SmolVm, machine: &mut Machine) -> Result<(), VmError> {
    let deleted = match machine.supervisor.take() {
        Some(supervisor) => supervisor.delete(),
        None => supervisor::remove(&vm.dirs),
    };
    deleted.map_err(|source| VmError::Supervisor { id: vm.id.to_string(), source })
}
