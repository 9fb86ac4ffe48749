//! What can be done with any open descriptor.

use std::ffi::c_int;
use std::io;
use std::os::fd::AsRawFd;

use super::check;

/// The C libraries do not agree on the type of a request.
#[cfg(target_env = "musl")]
pub(super) type IoctlRequest = c_int;
#[cfg(not(target_env = "musl"))]
pub(super) type IoctlRequest = std::ffi::c_ulong;

unsafe extern "C" {
    fn fcntl(fd: c_int, command: c_int, ...) -> c_int;
    pub(super) fn ioctl(fd: c_int, request: IoctlRequest, ...) -> c_int;
}

/// Has reads from a pipe and writes to it fail instead of wait, at this end.
pub(crate) fn set_pipe_nonblocking(pipe: &impl AsRawFd) -> io::Result<()> {
    const F_SETFL: c_int = 4;
    const O_NONBLOCK: c_int = 0o4000;
    // SAFETY: it takes no pointer.
    check(unsafe { fcntl(pipe.as_raw_fd(), F_SETFL, O_NONBLOCK) })?;
    Ok(())
}

/// How many bytes there are to read now.
pub(crate) fn pending(descriptor: &impl AsRawFd) -> io::Result<usize> {
    const FIONREAD: IoctlRequest = 0x541b;
    let mut count: c_int = 0;
    // SAFETY: the request writes an `int` to the pointer, which is to one.
    check(unsafe { ioctl(descriptor.as_raw_fd(), FIONREAD, &raw mut count) })?;
    Ok(usize::try_from(count).unwrap_or(0))
}
