//! The system calls that `std` lacks, as safe functions. All unsafe code of the agent is below this
//! module.
#![expect(unsafe_code, reason = "the C library is called without a crate that wraps it")]

use std::ffi::{CString, c_int};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

#[cfg(test)]
pub(crate) mod agent_for_test;
pub(crate) mod child;
pub(crate) mod clock;
pub(crate) mod descriptor;
pub(crate) mod file_times;
pub(crate) mod interface;
pub(crate) mod launch;
pub(crate) mod module;
pub(crate) mod mount;
pub(crate) mod open_files;
pub(crate) mod poll;
pub(crate) mod process;
pub(crate) mod pty;
pub(crate) mod random;
pub(crate) mod reboot;
pub(crate) mod signal;
pub(crate) mod signal_action;
pub(crate) mod socket;

/// The result of a C function that says -1 for an error in `errno`.
fn check(result: c_int) -> io::Result<c_int> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// A path for a C function.
fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}
