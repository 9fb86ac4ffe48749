//! Makes TCP connections: every address of a host, the next one not waiting for a silent one
//! (after RFC 8305, "Happy Eyeballs"), until one answers or the caller cancels.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};
use url::Host;

use super::error::HttpError;
use super::resolve::resolve;
use crate::cancel::{CancelToken, POLL};

/// How long one address may stay silent before the next is tried beside it (RFC 8305 section 5).
const HEAD_START: Duration = Duration::from_millis(250);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    /// The name has no address, or nobody could be asked.
    #[error("the address of the host {host} cannot be found; check the name and the network")]
    LookUp { host: String, source: io::Error },
    /// None of its addresses takes a connection.
    #[error("cannot connect to {host}:{port}")]
    Connect { host: String, port: u16, source: io::Error },
}

impl DialError {
    /// Whether trying again may help: always, but for a name that does not exist.
    pub(super) fn is_retryable(&self) -> bool {
        match self {
            Self::Connect { .. } => true,
            Self::LookUp { source, .. } => !is_no_such_name(source),
        }
    }
}

/// Whether the resolver said that the name does not exist, rather than that it cannot tell.
fn is_no_such_name(error: &io::Error) -> bool {
    // The standard library keeps the resolver's text but not its code; these are the texts of
    // EAI_NONAME and EAI_NODATA in glibc and musl.
    const TEXTS: [&str; 4] = [
        "Name or service not known",
        "No address associated with hostname",
        "Name does not resolve",
        "Name has no usable address",
    ];
    let text = error.to_string();
    TEXTS.iter().any(|known| text.contains(known))
}

/// Connects to `host`, waiting up to `limit` for each of its addresses.
pub(super) fn dial(
    host: &Host<&str>,
    port: u16,
    limit: Duration,
    cancel: &CancelToken,
) -> Result<TcpStream, HttpError> {
    let addresses = match *host {
        Host::Ipv4(address) => vec![(address, port).into()],
        Host::Ipv6(address) => vec![(address, port).into()],
        Host::Domain(name) => resolve(name, port, cancel)?,
    };
    match connect_any(alternate(addresses), limit, cancel) {
        Ok(socket) => Ok(socket),
        Err(None) => Err(HttpError::Cancelled),
        Err(Some(source)) => {
            Err(DialError::Connect { host: host.to_string(), port, source }.into())
        }
    }
}

/// Addresses of both families in turn, beginning with the preferred one (RFC 8305 section 4).
fn alternate(addresses: Vec<SocketAddr>) -> VecDeque<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (mut preferred, mut other): (VecDeque<_>, VecDeque<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == first_is_v6);
    let mut order = VecDeque::new();
    while !(preferred.is_empty() && other.is_empty()) {
        order.extend(preferred.pop_front());
        order.extend(other.pop_front());
    }
    order
}

/// A connection that is being made.
struct Attempt {
    socket: OwnedFd,
    until: Instant,
}

impl Attempt {
    fn start(address: SocketAddr, limit: Duration) -> io::Result<Self> {
        let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
        let socket = rustix::net::socket_with(
            family,
            SocketType::STREAM,
            SocketFlags::NONBLOCK | SocketFlags::CLOEXEC,
            Some(ipproto::TCP),
        )?;
        match rustix::net::connect(&socket, &address) {
            Ok(()) | Err(Errno::INPROGRESS) => Ok(Self { socket, until: Instant::now() + limit }),
            Err(error) => Err(error.into()),
        }
    }

    /// The socket, once `poll` says that the kernel has decided.
    fn finish(self) -> io::Result<TcpStream> {
        sockopt::socket_error(&self.socket)??;
        let socket = TcpStream::from(self.socket);
        socket.set_nonblocking(false)?;
        Ok(socket)
    }
}

/// The first connection that comes about; else the last error, or `None` when cancelled.
fn connect_any(
    mut waiting: VecDeque<SocketAddr>,
    limit: Duration,
    cancel: &CancelToken,
) -> Result<TcpStream, Option<io::Error>> {
    let mut running: Vec<Attempt> = Vec::new();
    let mut last_error = io::Error::from(io::ErrorKind::AddrNotAvailable);
    let mut next_start = Instant::now();
    loop {
        if cancel.is_cancelled() {
            return Err(None);
        }
        if running.is_empty() && waiting.is_empty() {
            return Err(Some(last_error));
        }
        if (running.is_empty() || Instant::now() >= next_start)
            && let Some(address) = waiting.pop_front()
        {
            next_start = Instant::now() + HEAD_START;
            match Attempt::start(address, limit) {
                Ok(attempt) => running.push(attempt),
                Err(error) => last_error = error,
            }
        }
        for index in ready(&running).map_err(Some)?.into_iter().rev() {
            match running.swap_remove(index).finish() {
                Ok(socket) => return Ok(socket),
                Err(error) => last_error = error,
            }
        }
        let before = running.len();
        running.retain(|attempt| Instant::now() < attempt.until);
        if running.len() < before {
            last_error = io::ErrorKind::TimedOut.into();
        }
    }
}

/// Waits a moment; says which of the attempts are decided.
fn ready(running: &[Attempt]) -> io::Result<Vec<usize>> {
    if running.is_empty() {
        return Ok(Vec::new());
    }
    let mut polled: Vec<_> =
        running.iter().map(|attempt| PollFd::new(&attempt.socket, PollFlags::OUT)).collect();
    let slice = Timespec { tv_sec: 0, tv_nsec: POLL.subsec_nanos().into() };
    match poll(&mut polled, Some(&slice)) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let decided = polled.iter().enumerate().filter(|(_, fd)| !fd.revents().is_empty());
    Ok(decided.map(|(index, _)| index).collect())
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
    use std::thread;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    /// A listener that drops what it has no room for, as a firewall does: its queue is full.
    struct Silent {
        _listener: OwnedFd,
        _queued: Vec<OwnedFd>,
        address: SocketAddr,
    }

    fn silent() -> Silent {
        let listener = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        rustix::net::bind(&listener, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let address = rustix::net::getsockname(&listener).unwrap().try_into().unwrap();
        let mut queued = Vec::new();
        loop {
            let attempt = Attempt::start(address, LIMIT).unwrap();
            let answered = ready(std::slice::from_ref(&attempt)).unwrap();
            queued.push(attempt.socket);
            if answered.is_empty() {
                return Silent { _listener: listener, _queued: queued, address };
            }
        }
    }

    fn refusing() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
    }

    #[test]
    fn a_refused_connection_names_the_server_and_may_be_retried() {
        let address = refusing();
        let host = Host::Ipv4(Ipv4Addr::LOCALHOST);
        let error = dial(&host, address.port(), LIMIT, &CancelToken::new()).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot connect to {address}"));
        assert!(error.is_retryable());
    }

    #[test]
    fn the_next_address_is_tried_when_one_refuses_or_is_silent() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let silent = silent();
        let addresses = [refusing(), silent.address, server.local_addr().unwrap()];
        let socket = connect_any(addresses.into(), LIMIT, &CancelToken::new()).unwrap();
        assert_eq!(socket.peer_addr().unwrap(), server.local_addr().unwrap());
    }

    #[test]
    fn a_silent_server_times_out_and_may_be_retried() {
        let silent = silent();
        let host = Host::Ipv4(Ipv4Addr::LOCALHOST);
        let limit = Duration::from_millis(1);
        let error = dial(&host, silent.address.port(), limit, &CancelToken::new()).unwrap_err();
        let HttpError::Dial(DialError::Connect { ref source, .. }) = error else {
            panic!("{error:?}")
        };
        assert_eq!(source.kind(), io::ErrorKind::TimedOut);
        assert!(error.is_retryable());
    }

    #[test]
    fn connecting_to_a_silent_server_is_cancelled() {
        let silent = silent();
        let cancel = CancelToken::new();
        let ender = cancel.clone();
        let address = silent.address;
        let dialing = thread::spawn(move || {
            let forever = Duration::from_hours(1);
            dial(&Host::Ipv4(Ipv4Addr::LOCALHOST), address.port(), forever, &cancel)
        });
        thread::sleep(POLL);
        ender.cancel();
        assert!(matches!(dialing.join().unwrap().unwrap_err(), HttpError::Cancelled));
    }

    #[test]
    fn a_name_that_does_not_exist_is_not_asked_for_again() {
        let look_up = |text: &str| DialError::LookUp {
            host: "h".to_owned(),
            source: io::Error::other(format!("failed to lookup address information: {text}")),
        };
        assert!(!look_up("Name or service not known").is_retryable());
        assert!(look_up("Temporary failure in name resolution").is_retryable());
    }

    #[test]
    fn families_take_turns() {
        let v4 = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let v6 = |port| SocketAddr::from((Ipv6Addr::LOCALHOST, port));
        let order = alternate(vec![v6(1), v6(2), v6(3), v4(4)]);
        assert_eq!(order, [v6(1), v4(4), v6(2), v6(3)]);
    }
}
