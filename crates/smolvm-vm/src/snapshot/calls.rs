//! The calls of a machine that have it stand still, go on, and go on elsewhere.

use std::path::Path;

use smolvm_image::CancelToken;

use super::{RestoreConfig, Snapshot, restore, take};
use crate::error::VmError;
use crate::pause::Note;
use crate::state::VmState;
use crate::vm::{SmolVm, Vm};

impl SmolVm {
    /// Stops the machine's processors. What it has in memory stays, and so does its memory. Does
    /// nothing where it is paused already.
    ///
    /// # Errors
    /// [`VmError::NotRunning`]; [`VmError::Vmm`] where the VMM does not do it.
    pub fn pause(&self) -> Result<(), VmError> {
        let _machine = self.machine();
        match self.state() {
            VmState::Paused => return Ok(()),
            VmState::Running => {}
            state => return Err(self.not_running(state)),
        }
        Note::take(&self.dirs)?.pause(&self.id, self.backend, false).map(drop)
    }

    /// Lets a paused machine go on, and tells it the time. Does nothing where it runs.
    ///
    /// # Errors
    /// As [`pause`](Self::pause).
    pub fn resume(&self) -> Result<(), VmError> {
        let _machine = self.machine();
        match self.state() {
            VmState::Running => return Ok(()),
            VmState::Paused => {}
            state => return Err(self.not_running(state)),
        }
        Note::take(&self.dirs)?.resume(&self.id, self.backend)?;
        self.tell_time();
        Ok(())
    }

    /// Makes a snapshot: a directory with what the machine is at this moment, from which others
    /// [go on](Self::restore). The machine stands still while its memory and its disk are written,
    /// and goes on afterwards, unless it was paused before.
    ///
    /// The directory is there when it is whole, or not at all. It holds all that the guest has in
    /// memory, secrets included, and is this user's alone.
    ///
    /// On Firecracker this takes its jail, and ends all connections between the guest and this
    /// host: commands that run are killed, and [`run`](Self::run) works again when this returns.
    ///
    /// # Errors
    /// [`VmError::NotRunning`]; [`VmError::Snapshot`] where there is something at `directory`,
    /// there is no room for it, or the machine is one that cannot be had twice: one whose disk is
    /// [shared](crate::DiskMode::Shared), or whose Firecracker is in no jail.
    pub fn snapshot(&self, directory: impl AsRef<Path>) -> Result<Snapshot, VmError> {
        self.snapshot_unless(directory.as_ref(), &CancelToken::new())
    }

    pub(crate) fn snapshot_unless(
        &self,
        directory: &Path,
        cancel: &CancelToken,
    ) -> Result<Snapshot, VmError> {
        let machine = self.machine();
        let ran = match self.state() {
            VmState::Running => true,
            VmState::Paused => false,
            state => return Err(self.not_running(state)),
        };
        let snapshot = take(self, &machine, directory, cancel)?;
        if ran {
            self.tell_time();
        }
        Ok(snapshot)
    }

    /// Makes a machine that goes on from a snapshot: one of its own, with its own name, disk and
    /// directory, and with other random numbers, the right time and its own address before anybody
    /// can run a command in it. Returns when it runs commands.
    ///
    /// What ran in the guest goes on, but commands that were run through this library: they have
    /// nobody to listen to them, and are killed. Connections to other hosts are dead. What is not
    /// in the snapshot, such as values of the environment of commands, is given anew.
    ///
    /// # Errors
    /// [`VmError::Snapshot`] where the snapshot is damaged, was made with another version of the
    /// VMM or on another kind of processor, or the image has changed since; and those of
    /// [`new`](Self::new) and [`start`](Self::start).
    pub fn restore(snapshot: &Snapshot, config: RestoreConfig) -> Result<Self, VmError> {
        restore(snapshot, config)
    }

    /// A guest's clock stands still with it. One that cannot be told goes on as it is.
    fn tell_time(&self) {
        let told = self.session().map(|session| session.set_time());
        if !matches!(told, Ok(Ok(()))) {
            log::debug!("the VM '{}' was not told the time: {told:?}", self.id);
        }
    }
}

impl Vm {
    /// As [`SmolVm::restore`]: a machine that goes on from a snapshot.
    ///
    /// # Errors
    /// As that.
    pub fn restore(snapshot: &Snapshot, config: RestoreConfig) -> Result<Self, VmError> {
        SmolVm::restore(snapshot, config).map(Self::of)
    }
}
