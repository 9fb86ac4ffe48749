//! How many files a process may have open.

use std::ffi::{c_int, c_ulong};
use std::io;

use super::check;

/// `struct rlimit`: the limit, and how far a process may raise it itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Limit {
    soft: c_ulong,
    hard: c_ulong,
}

const RLIMIT_NOFILE: c_int = 7;

unsafe extern "C" {
    fn getrlimit(resource: c_int, limit: *mut Limit) -> c_int;
    fn setrlimit(resource: c_int, limit: *const Limit) -> c_int;
}

impl Limit {
    /// Has this be the limit of the calling process, if that is allowed. It calls nothing but the
    /// system.
    pub(super) fn set(&self) -> bool {
        // SAFETY: the pointer is to a limit.
        unsafe { setrlimit(RLIMIT_NOFILE, self) == 0 }
    }
}

/// Lets this process open as many files as the kernel lets any process. Returns the limit that
/// there was before.
pub(crate) fn raise() -> io::Result<Limit> {
    /// Half of the kernel's default for what any limit may be.
    const ENOUGH: c_ulong = 1 << 19;
    let mut before = Limit { soft: 0, hard: 0 };
    // SAFETY: the pointer is to a limit.
    check(unsafe { getrlimit(RLIMIT_NOFILE, &raw mut before) })?;
    let raised = Limit { soft: ENOUGH.max(before.soft), hard: ENOUGH.max(before.hard) };
    if raised.set() { Ok(before) } else { Err(io::Error::last_os_error()) }
}
