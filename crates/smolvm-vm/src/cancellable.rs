//! [`Cancellable`]: the calls of a machine that take long, ended by a token.

use std::path::Path;
use std::time::Duration;

use smolvm_image::CancelToken;

use crate::error::VmError;
use crate::session::{Command, CommandResult, Process};
use crate::snapshot::Snapshot;
use crate::vm::SmolVm;

/// A machine whose calls end once a token is cancelled, within a quarter of a second. Their error
/// is of the kind [`Cancelled`](crate::VmErrorKind::Cancelled).
///
/// ```no_run
/// use smolvm_image::CancelToken;
/// use smolvm_vm::{Vm, VmConfig};
///
/// let vm = Vm::boot(VmConfig::new("vmlinux.bin", "rootfs.ext4"))?;
/// let cancel = CancelToken::new();
/// std::thread::scope(|scope| {
///     let running = scope.spawn(|| vm.cancelled_by(&cancel).run("sleep 1000"));
///     cancel.cancel();
///     running.join()
/// });
/// # Ok::<(), smolvm_vm::VmError>(())
/// ```
#[derive(Debug)]
pub struct Cancellable<'a> {
    vm: &'a SmolVm,
    cancel: &'a CancelToken,
}

impl SmolVm {
    /// This machine, with calls that end once the token is cancelled.
    #[must_use]
    pub fn cancelled_by<'a>(&'a self, cancel: &'a CancelToken) -> Cancellable<'a> {
        Cancellable { vm: self, cancel }
    }
}

impl Cancellable<'_> {
    /// [`SmolVm::start_within`]. One that is cancelled leaves the machine stopped.
    ///
    /// # Errors
    /// As that, and [`VmError::Cancelled`].
    pub fn start_within(&self, boot_timeout: Duration) -> Result<(), VmError> {
        self.vm.start_unless(boot_timeout, self.cancel)
    }

    /// [`SmolVm::snapshot`]. One that is cancelled leaves nothing, and the machine goes on.
    ///
    /// # Errors
    /// As that, and [`SnapshotError::Cancelled`](crate::SnapshotError::Cancelled).
    pub fn snapshot(&self, directory: impl AsRef<Path>) -> Result<Snapshot, VmError> {
        self.vm.snapshot_unless(directory.as_ref(), self.cancel)
    }

    /// [`SmolVm::run`]. The command of one that is cancelled is killed.
    ///
    /// # Errors
    /// As that, and [`SessionError::Cancelled`](crate::SessionError::Cancelled) as its source.
    pub fn run(&self, command: impl Into<Command>) -> Result<CommandResult, VmError> {
        let command = self.vm.with_env(command.into());
        let session = self.vm.session_unless(self.cancel)?;
        session.run(&command).map_err(|source| self.vm.session_error(source))
    }

    /// [`SmolVm::popen`]. Once the command has started, the token is of no matter.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn popen(&self, command: impl Into<Command>) -> Result<Process, VmError> {
        let command = self.vm.with_env(command.into());
        let session = self.vm.session_unless(self.cancel)?;
        session.spawn(&command).map_err(|source| self.vm.session_error(source))
    }

    /// [`SmolVm::wait_ready`].
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn wait_ready(&self, timeout: Duration) -> Result<(), VmError> {
        let session = self.vm.session_unless(self.cancel)?;
        session.settle(timeout).map_err(|source| self.vm.session_error(source))
    }

    /// [`SmolVm::copy_to`]. What has been copied when it is cancelled stays.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn copy_to(&self, host: impl AsRef<Path>, guest: impl AsRef<Path>) -> Result<(), VmError> {
        let session = self.vm.session_unless(self.cancel)?;
        let copied = session.copy_to(host.as_ref(), guest.as_ref());
        copied.map_err(|source| self.vm.session_error(source))
    }

    /// [`SmolVm::copy_from`]. What has been copied when it is cancelled stays, in whole files.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn copy_from(
        &self,
        guest: impl AsRef<Path>,
        host: impl AsRef<Path>,
    ) -> Result<(), VmError> {
        let session = self.vm.session_unless(self.cancel)?;
        let copied = session.copy_from(guest.as_ref(), host.as_ref());
        copied.map_err(|source| self.vm.session_error(source))
    }
}
