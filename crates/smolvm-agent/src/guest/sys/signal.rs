//! Signals that are waited for instead of handled.

use std::ffi::{c_int, c_long, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::time::Duration;

use super::check;

/// `SIGINT`: what the kernel sends to the first process for Ctrl-Alt-Del.
pub(crate) const INT: c_int = 2;
/// `SIGKILL`.
pub(crate) const KILL: c_int = 9;
/// `SIGUSR1`.
pub(crate) const USR1: c_int = 10;
/// `SIGUSR2`.
pub(crate) const USR2: c_int = 12;
/// `SIGTERM`.
pub(crate) const TERM: c_int = 15;
/// `SIGCHLD`.
pub(crate) const CHILD: c_int = 17;
/// `SIGPWR`.
pub(crate) const POWER: c_int = 30;

/// A set of signals, as large as both C libraries have it.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Set([u64; 16]);

/// `struct timespec` of the 64-bit platforms.
#[repr(C)]
struct Timespec {
    seconds: i64,
    nanoseconds: c_long,
}

unsafe extern "C" {
    fn sigemptyset(set: *mut Set) -> c_int;
    fn sigaddset(set: *mut Set, signal: c_int) -> c_int;
    fn sigprocmask(how: c_int, set: *const Set, old: *mut Set) -> c_int;
    fn sigtimedwait(set: *const Set, info: *mut c_void, timeout: *const Timespec) -> c_int;
}

impl Set {
    /// The set of `signals`.
    pub(crate) fn of(signals: &[c_int]) -> Self {
        let mut set = MaybeUninit::uninit();
        // SAFETY: the function initialises the set that the pointer is to; it cannot fail.
        let mut set = unsafe {
            sigemptyset(set.as_mut_ptr());
            set.assume_init()
        };
        for &signal in signals {
            // SAFETY: the pointer is to an initialised set. A number that is no signal is refused.
            unsafe { sigaddset(&raw mut set, signal) };
        }
        set
    }

    /// Has the process take these signals only by [`Set::wait`].
    pub(crate) fn block(&self) {
        const SIG_BLOCK: c_int = 0;
        self.change_mask(SIG_BLOCK);
    }

    /// Has the process block these signals and no others.
    pub(crate) fn block_only(&self) {
        const SIG_SETMASK: c_int = 2;
        self.change_mask(SIG_SETMASK);
    }

    fn change_mask(&self, how: c_int) {
        // SAFETY: the first pointer is to an initialised set, the second may be null. It fails for
        // an unknown `how` only.
        unsafe { sigprocmask(how, self, ptr::null_mut()) };
    }

    /// Waits for one of the signals, which must be [blocked](Set::block); `None` when there was
    /// none for so long, or another one was handled.
    pub(crate) fn wait(&self, timeout: Duration) -> Option<c_int> {
        let timeout = Timespec {
            seconds: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            nanoseconds: c_long::from(timeout.subsec_nanos()),
        };
        // SAFETY: the set and the time are initialised; the information may be null.
        let signal: io::Result<c_int> =
            check(unsafe { sigtimedwait(self, ptr::null_mut(), &raw const timeout) });
        signal.ok()
    }
}
