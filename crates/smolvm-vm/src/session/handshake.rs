//! The beginning of a session: the connection to the supervisor's socket, and what both sides say
//! first.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recv,
    send, socket_with,
};
use rustix::rand::{GetRandomFlags, getrandom};
use smolvm_image::CancelToken;
use smolvm_protocol::{
    Decoder, Nonce, Preamble, ProtocolError, Reply, SESSION_CHANNEL, Scanner, Side, Welcome,
};

use super::error::SessionError;
use super::wait::POLL;

/// A connection that is past its welcome.
pub(super) struct Welcomed {
    pub(super) socket: UnixStream,
    pub(super) welcome: Welcome,
    /// Holds what came after the welcome.
    pub(super) decoder: Decoder,
}

/// Connects to `path`, and waits until the agent there says that it is ready.
pub(super) fn connect_to(
    path: &Path,
    deadline: Instant,
    cancel: &CancelToken,
) -> Result<Welcomed, SessionError> {
    let start = Instant::now();
    let cannot_connect = |errno: Errno| match errno {
        Errno::TIMEDOUT => SessionError::NotReady { waited: start.elapsed() },
        errno => SessionError::Connect { socket: path.to_owned(), source: errno.into() },
    };
    let socket = reach(path, deadline).map_err(cannot_connect)?;
    let mut nonce = Nonce::default();
    getrandom(&mut nonce, GetRandomFlags::empty()).map_err(cannot_connect)?;
    let preamble = Preamble::new(Side::Host, nonce).encode();
    let sent = send(&socket, &preamble, SendFlags::NOSIGNAL).map_err(cannot_connect)?;
    if sent < preamble.len() {
        return Err(SessionError::NotReading);
    }

    let mut arrival = Arrival::new(nonce);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let Some(count) = receive(&socket, &mut buffer, deadline, cancel) else {
            return Err(if cancel.is_cancelled() {
                SessionError::Cancelled
            } else {
                SessionError::NotReady { waited: start.elapsed() }
            });
        };
        let count = count.map_err(|_| SessionError::Disconnected)?;
        if count == 0 {
            return Err(SessionError::Disconnected);
        }
        if let Some(welcome) = arrival.push(&buffer[..count])? {
            return Ok(Welcomed { socket: socket.into(), welcome, decoder: arrival.decoder });
        }
    }
}

/// What has come before the welcome.
struct Arrival {
    /// Looks for the guest's preamble, until it has come.
    scanner: Option<Scanner>,
    decoder: Decoder,
}

impl Arrival {
    fn new(nonce: Nonce) -> Self {
        Self { scanner: Some(Scanner::for_guest(nonce)), decoder: Decoder::default() }
    }

    /// Takes in what was read; returns the welcome once it is there.
    fn push(&mut self, bytes: &[u8]) -> Result<Option<Welcome>, ProtocolError> {
        match &mut self.scanner {
            None => self.decoder.push(bytes),
            Some(scanner) => {
                let Some((_, rest)) = scanner.push(bytes)? else {
                    return Ok(None);
                };
                self.scanner = None;
                self.decoder.push(&rest);
            }
        }
        let Some(frame) = self.decoder.next_frame()? else {
            return Ok(None);
        };
        match (frame.channel, Reply::decode(&frame)?) {
            (SESSION_CHANNEL, Reply::Welcome(welcome)) => Ok(Some(welcome)),
            _ => Err(ProtocolError::Malformed("the first reply is no welcome")),
        }
    }
}

/// Connects to a socket. A listener whose queue is full is tried again.
fn reach(path: &Path, deadline: Instant) -> Result<OwnedFd, Errno> {
    let address = SocketAddrUnix::new(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    loop {
        match connect(&socket, &address) {
            Err(Errno::AGAIN) if Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(5));
            }
            Err(Errno::AGAIN) => return Err(Errno::TIMEDOUT),
            Err(Errno::INTR) => {}
            connected => return connected.map(|()| socket),
        }
    }
}

/// Reads what has come, or waits for it until the deadline or until it is cancelled.
fn receive(
    socket: &OwnedFd,
    buffer: &mut [u8],
    deadline: Instant,
    cancel: &CancelToken,
) -> Option<Result<usize, Errno>> {
    while !cancel.is_cancelled() {
        // Looked at even where data never stops coming.
        let left = deadline.checked_duration_since(Instant::now())?;
        match recv(socket, &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((count, _)) => return Some(Ok(count)),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let mut polled = [PollFd::new(socket, PollFlags::IN)];
                let left = Timespec::try_from(left.min(POLL)).ok();
                match poll(&mut polled, left.as_ref()) {
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(errno) => return Some(Err(errno)),
                }
            }
            Err(errno) => return Some(Err(errno)),
        }
    }
    None
}
