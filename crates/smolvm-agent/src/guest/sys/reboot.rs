//! The end of the machine.

use std::ffi::c_int;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;

use super::check;

unsafe extern "C" {
    #[link_name = "sync"]
    fn c_sync();
    #[link_name = "reboot"]
    fn c_reboot(command: c_int) -> c_int;
    #[link_name = "tcdrain"]
    fn c_tcdrain(fd: c_int) -> c_int;
}

/// Writes everything that waits in memory to the disks.
pub(crate) fn sync() {
    // SAFETY: it has no arguments and no result.
    unsafe { c_sync() }
}

/// Waits until `terminal` has sent all that was written to it.
pub(crate) fn drain(terminal: &File) -> io::Result<()> {
    // SAFETY: it takes a descriptor, which is open as long as `terminal`.
    check(unsafe { c_tcdrain(terminal.as_raw_fd()) })?;
    Ok(())
}

/// Resets the machine at once; it returns only where that is not allowed. A machine monitor may
/// have no power switch, but a reset always ends it.
pub(crate) fn reset() -> io::Error {
    const RB_AUTOBOOT: c_int = 0x0123_4567;
    // SAFETY: the command takes no further argument.
    match check(unsafe { c_reboot(RB_AUTOBOOT) }) {
        Ok(_) => io::Error::other("the machine was reset, but goes on"),
        Err(error) => error,
    }
}
