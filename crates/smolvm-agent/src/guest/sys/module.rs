//! Loading a kernel module.

use std::ffi::{CStr, c_int, c_long};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;

/// `SYS_finit_module`; the C libraries have no function for it.
#[cfg(target_arch = "x86_64")]
const FINIT_MODULE: c_long = 313;
#[cfg(target_arch = "aarch64")]
const FINIT_MODULE: c_long = 273;

unsafe extern "C" {
    fn syscall(number: c_long, ...) -> c_long;
}

/// Loads the module in `file` with `parameters` (`name=value`, with spaces between them). The
/// kernel unpacks a `compressed` one itself, if it was built to.
pub(crate) fn load(file: &File, parameters: &CStr, compressed: bool) -> io::Result<()> {
    const COMPRESSED_FILE: c_int = 4;
    let flags = if compressed { COMPRESSED_FILE } else { 0 };
    // SAFETY: `finit_module(2)` takes a descriptor, a string that ends with NUL and lives until
    // the call returns, and flags.
    let result = unsafe { syscall(FINIT_MODULE, file.as_raw_fd(), parameters.as_ptr(), flags) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
