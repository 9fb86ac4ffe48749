//! The processes that the agent has started, and their ends.

use std::ffi::c_int;
use std::fs::File;
use std::io;
use std::os::fd::FromRawFd as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use super::check;
use super::signal::{self, Set};

/// A process that leads a group (and a session) of its own, which has the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProcessGroup(c_int);

unsafe extern "C" {
    fn signalfd(fd: c_int, set: *const Set, flags: c_int) -> c_int;
    fn waitpid(process: c_int, status: *mut c_int, options: c_int) -> c_int;
    fn kill(process: c_int, signal: c_int) -> c_int;
}

impl ProcessGroup {
    /// The group of a child that leads one.
    pub(super) fn led_by(process: c_int) -> Self {
        Self(process)
    }

    /// The number of the process and of its group.
    pub(crate) fn id(self) -> u32 {
        self.0.unsigned_abs()
    }

    /// Sends `signal` to every process of the group, if there is one left.
    pub(crate) fn signal(self, signal: u8) {
        // SAFETY: it takes two numbers. The group is never 0 or 1, which would be all processes.
        unsafe { kill(-self.0, c_int::from(signal)) };
    }

    /// Waits until the process has ended.
    pub(crate) fn wait(self) -> Option<ExitStatus> {
        wait(self.0, 0).map(|(_, status)| status)
    }

    /// A child that has ended, if one has.
    pub(crate) fn reap_any() -> Option<(Self, ExitStatus)> {
        const ANY: c_int = -1;
        const WNOHANG: c_int = 1;
        wait(ANY, WNOHANG)
    }
}

fn wait(process: c_int, options: c_int) -> Option<(ProcessGroup, ExitStatus)> {
    let mut status = 0;
    loop {
        // SAFETY: the pointer is to an `int`.
        match check(unsafe { waitpid(process, &raw mut status, options) }) {
            Ok(0) => return None,
            Ok(process) => return Some((ProcessGroup(process), ExitStatus::from_raw(status))),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
}

/// Sends `signal` to the first process.
pub(crate) fn signal_first(signal: u8) {
    // SAFETY: it takes two numbers.
    unsafe { kill(1, c_int::from(signal)) };
}

/// A descriptor that can be read whenever a child has ended. The signal is blocked from now on.
pub(crate) fn watch_children() -> io::Result<File> {
    const NONBLOCK_CLOEXEC: c_int = 0o4000 | 0o2_000_000;
    let set = Set::of(&[signal::CHILD]);
    set.block();
    // SAFETY: the pointer is to a set; -1 asks for a new descriptor.
    let fd = check(unsafe { signalfd(-1, &raw const set, NONBLOCK_CLOEXEC) })?;
    // SAFETY: the descriptor is new, and nobody else's.
    Ok(unsafe { File::from_raw_fd(fd) })
}
