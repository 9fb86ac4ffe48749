//! Child processes that run on in this program, and the ends of all children.

use std::ffi::c_int;
use std::io;
use std::ptr;

use super::check;

/// A process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process(c_int);

/// What [`fork`] returned, and to whom.
#[derive(Debug)]
pub(crate) enum Fork {
    /// To the process that called it.
    Parent(Process),
    /// To the new one.
    Child,
}

unsafe extern "C" {
    #[link_name = "fork"]
    fn c_fork() -> c_int;
    fn setsid() -> c_int;
    fn waitpid(process: c_int, status: *mut c_int, options: c_int) -> c_int;
    fn kill(process: c_int, signal: c_int) -> c_int;
}

/// Splits the process in two. Only for a process without other threads: locks that those hold
/// would stay locked in the child.
pub(crate) fn fork() -> io::Result<Fork> {
    // SAFETY: the agent starts no threads before it has forked (what serves may, as a child), so
    // the child finds no lock held by a thread that it does not have.
    match check(unsafe { c_fork() })? {
        0 => Ok(Fork::Child),
        process => Ok(Fork::Parent(Process(process))),
    }
}

/// Puts the process in a session of its own, so that no terminal's signals reach it. (It fails
/// where it leads one already.)
pub(crate) fn leave_session() {
    // SAFETY: it has no arguments.
    unsafe { setsid() };
}

/// Reaps a child that has ended; `Ok(None)` when all others still run, an error when there is no
/// child at all.
pub(crate) fn reap() -> io::Result<Option<Process>> {
    const ANY: c_int = -1;
    const WNOHANG: c_int = 1;
    // SAFETY: the status may be null: it is not asked for.
    let process = check(unsafe { waitpid(ANY, ptr::null_mut(), WNOHANG) })?;
    Ok((process != 0).then_some(Process(process)))
}

/// Sends `signal` to every process but this one and the first.
pub(crate) fn signal_all(signal: c_int) {
    const ALL: c_int = -1;
    // SAFETY: it takes two numbers.
    unsafe { kill(ALL, signal) };
}
