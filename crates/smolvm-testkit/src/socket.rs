//! A TCP connection that can be reset, waited on and cut from another thread.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::set_socket_linger;

/// How long [`Socket::reset`] waits for the peer to take what was written.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);

/// One connection; it closes when the last clone is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Socket(Arc<TcpStream>);

impl Socket {
    pub(crate) fn new(stream: TcpStream) -> Self {
        // Small writes are the point of many faults: none may wait for the next.
        let _ = stream.set_nodelay(true);
        Self(Arc::new(stream))
    }

    /// A handle that does not keep the connection open.
    pub(crate) fn downgrade(&self) -> Weak<TcpStream> {
        Arc::downgrade(&self.0)
    }

    /// Ends both directions now; blocked reads and writes return.
    pub(crate) fn shut_down(&self) {
        let _ = self.0.shutdown(Shutdown::Both);
    }

    /// Sends a FIN after what was written.
    pub(crate) fn finish_writing(&self) {
        let _ = self.0.shutdown(Shutdown::Write);
    }

    /// Makes the close of this connection a RST in the place of a FIN (RFC 9293, section 3.10.4).
    ///
    /// A RST throws away what is still queued on this side; waiting for the queue to empty makes
    /// the place of the break exact.
    pub(crate) fn reset(&self) {
        let deadline = Instant::now() + DRAIN_LIMIT;
        while self.queued_bytes().is_some_and(|queued| queued > 0) && Instant::now() < deadline {
            if self.wait(Some(Duration::from_millis(2))) {
                break;
            }
        }
        let _ = set_socket_linger(&*self.0, Some(Duration::ZERO));
    }

    /// Waits until the time is over (false) or either end closed the connection (true).
    pub(crate) fn wait(&self, time: Option<Duration>) -> bool {
        let timeout = time.and_then(|time| Timespec::try_from(time).ok());
        let mut fds = [PollFd::new(&*self.0, PollFlags::RDHUP)];
        poll(&mut fds, timeout.as_ref()).is_ok_and(|ready| ready > 0)
    }

    /// The bytes written that the peer has not acknowledged, as the kernel lists them.
    fn queued_bytes(&self) -> Option<u64> {
        let port = self.0.local_addr().ok()?.port();
        let peer = self.0.peer_addr().ok()?.port();
        let table = fs_err::read_to_string("/proc/net/tcp").ok()?;
        let row = table.lines().map(str::split_ascii_whitespace).find(|row| {
            let mut row = row.clone().skip(1);
            let mut ends_with = |port: u16| {
                row.next().is_some_and(|address| address.ends_with(&format!(":{port:04X}")))
            };
            ends_with(port) && ends_with(peer)
        })?;
        let (queued, _) = row.clone().nth(4)?.split_once(':')?;
        u64::from_str_radix(queued, 16).ok()
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self.0).read(buffer)
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self.0).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
