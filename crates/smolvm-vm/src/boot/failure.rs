//! Why a machine did not come up.

use std::time::Duration;

use super::Boot;
use crate::backend::FirecrackerError;
use crate::console;
use crate::error::VmError;
use crate::session::SessionError;
use crate::snapshot::{LoadFailed, Source};

/// How long the end of a VMM may take to be heard of, after its agent's channel has ended.
const END: Duration = Duration::from_secs(2);

/// Why an attempt came to nothing.
pub(super) enum Failed {
    /// The guest found no disk: it may find one on another kind of machine.
    NoDevices(VmError),
    ForGood(VmError),
}

impl Boot<'_> {
    /// Ends what did not come up, and says why it did not.
    pub(super) fn why(&self, error: SessionError) -> Failed {
        let ended = match error {
            SessionError::NotReady { .. } | SessionError::Cancelled => false,
            _ => self.supervisor.wait_ended(END).is_some(),
        };
        let cancelled = matches!(error, SessionError::Cancelled);
        let vmm = if ended || cancelled { None } else { self.backend.status(&self.vm.dirs) };
        // Where it has not ended by itself, nobody needs it any more.
        let _ = self.supervisor.kill();
        let console = console::tail(&self.vm.dirs.console());
        let id = self.vm.id.to_string();
        if !ended {
            return Failed::ForGood(match error {
                SessionError::NotReady { .. } => {
                    VmError::BootTimeout { id, after: self.timeout, vmm, console }
                }
                SessionError::Cancelled => VmError::Cancelled { id },
                source => VmError::Session { id, source },
            });
        }
        match console::reason(&console) {
            Some(reason) if console::finds_no_devices(&reason) => {
                Failed::NoDevices(self.failed(reason))
            }
            Some(reason) => Failed::ForGood(self.failed(reason)),
            None => Failed::ForGood(self.failed(self.last_words())),
        }
    }

    /// Ends a VMM that did not make the machine, and says why it did not.
    pub(super) fn refused(&self, error: FirecrackerError) -> VmError {
        let ended = self.supervisor.wait_ended(Duration::from_millis(100)).is_some();
        let _ = self.supervisor.kill();
        if self.cancel.is_cancelled() {
            return VmError::Cancelled { id: self.vm.id.to_string() };
        }
        if ended { self.failed(self.last_words()) } else { error.into() }
    }

    /// Ends a VMM that did not take the snapshot, and says why it did not.
    pub(super) fn not_loaded(&self, source: &Source, failed: LoadFailed) -> VmError {
        let ended = self.supervisor.wait_ended(Duration::from_millis(100)).is_some();
        let _ = self.supervisor.kill();
        match failed {
            _ if self.cancel.is_cancelled() => VmError::Cancelled { id: self.vm.id.to_string() },
            LoadFailed::Snapshot(error) => error.into(),
            LoadFailed::Vmm(reason) => {
                source.not_loaded(if ended { self.last_words() } else { reason }).into()
            }
        }
    }

    /// What the VMM said last; it may have refused to start at all.
    fn last_words(&self) -> String {
        let said = console::tail(&self.vm.dirs.vmm_log());
        if said.is_empty() {
            return "it reset or switched itself off".to_owned();
        }
        // The first line is the cause where there are several.
        let lines: Vec<_> = said.lines().collect();
        format!("{} said: {}", self.backend.name(), lines.join("; "))
    }

    pub(super) fn failed(&self, reason: String) -> VmError {
        let console = console::tail(&self.vm.dirs.console());
        VmError::BootFailed { id: self.vm.id.to_string(), reason, console }
    }
}
