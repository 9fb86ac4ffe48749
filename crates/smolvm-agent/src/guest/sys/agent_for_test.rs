//! Processes for tests, whose own process has threads and is not to be changed.

use std::ffi::{c_int, c_long, c_uint};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _};
use std::panic::{self, AssertUnwindSafe};

use super::check;
use super::process::ProcessGroup;

unsafe extern "C" {
    fn fork() -> c_int;
    fn unshare(what: c_int) -> c_int;
    fn setsid() -> c_int;
    fn dup2(from: c_int, to: c_int) -> c_int;
    fn fcntl(fd: c_int, command: c_int, ...) -> c_int;
    fn syscall(number: c_long, ...) -> c_long;
    fn _exit(code: c_int) -> !;
}

/// Runs `run` in a process of its own, which has `kept` and the standard streams open and nothing
/// else, and then ends. The child has the calling thread alone.
pub(crate) fn fork_with(kept: &File, run: impl FnOnce(File)) -> ProcessGroup {
    const KEPT: c_int = 3;
    const F_DUPFD_CLOEXEC: c_int = 1030;
    const CLOSE_RANGE: c_long = 436;
    // SAFETY: the C library makes its own locks usable in the child; the tests see to the rest.
    let process = check(unsafe { fork() }).unwrap();
    if process != 0 {
        return ProcessGroup::led_by(process);
    }
    // SAFETY: all take numbers. The descriptors that are closed have owners in the parent only:
    // those in the child are never dropped.
    let kept = unsafe {
        setsid();
        dup2(kept.as_raw_fd(), KEPT);
        let first = KEPT.unsigned_abs();
        syscall(CLOSE_RANGE, first + 1, c_uint::MAX, 0);
        let kept = check(fcntl(KEPT, F_DUPFD_CLOEXEC, KEPT)).unwrap();
        syscall(CLOSE_RANGE, first, first, 0);
        File::from_raw_fd(kept)
    };
    let code = c_int::from(panic::catch_unwind(AssertUnwindSafe(|| run(kept))).is_err());
    // SAFETY: it takes a number. What the parent does at its exit is left to it.
    unsafe { _exit(code) }
}

/// Gives the calling process mounts, a network and a host name of its own.
pub(crate) fn leave_machine() -> io::Result<()> {
    const NEW_MOUNTS_NAME_NETWORK: c_int = 0x2_0000 | 0x400_0000 | 0x4000_0000;
    // SAFETY: it takes a number.
    check(unsafe { unshare(NEW_MOUNTS_NAME_NETWORK) })?;
    Ok(())
}
