//! Connecting to a VMM's socket within a time.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// How long to wait before knocking again where others queue.
const PAUSE: Duration = Duration::from_millis(5);

/// Connects without waiting longer than this: where nobody takes the connections that queue
/// already, connecting would wait forever.
pub(super) fn connect_before(socket: &Path, deadline: Instant) -> io::Result<UnixStream> {
    let address = SocketAddrUnix::new(socket)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let unix = AddressFamily::UNIX;
    let descriptor = rustix::net::socket_with(unix, SocketType::STREAM, flags, None)?;
    loop {
        match rustix::net::connect(&descriptor, &address) {
            Ok(()) => break,
            Err(Errno::AGAIN) if Instant::now() < deadline => thread::sleep(PAUSE),
            Err(Errno::AGAIN) => return Err(io::ErrorKind::TimedOut.into()),
            Err(error) => return Err(error.into()),
        }
    }
    let stream = UnixStream::from(descriptor);
    stream.set_nonblocking(false)?;
    Ok(stream)
}
