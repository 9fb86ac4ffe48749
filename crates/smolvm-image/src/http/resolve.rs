//! Name look-up that can be given up.
//!
//! The system's resolver cannot be interrupted, so it runs in a thread of its own, which is left
//! behind when nobody waits for it any more and ends when the resolver does.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use super::dial::DialError;
use super::error::HttpError;
use crate::cancel::{CancelToken, POLL};

/// How long the system's resolver may take; its own time-outs are about half of that.
const LOOK_UP: Duration = Duration::from_secs(30);

/// The addresses of a host name, in the resolver's order of preference.
pub(super) fn resolve(
    host: &str,
    port: u16,
    cancel: &CancelToken,
) -> Result<Vec<SocketAddr>, HttpError> {
    let name = host.to_owned();
    await_look_up(host, LOOK_UP, cancel, move || {
        (name.as_str(), port).to_socket_addrs().map(Iterator::collect)
    })
}

fn await_look_up(
    host: &str,
    limit: Duration,
    cancel: &CancelToken,
    look_up: impl FnOnce() -> io::Result<Vec<SocketAddr>> + Send + 'static,
) -> Result<Vec<SocketAddr>, HttpError> {
    let failed = |source| DialError::LookUp { host: host.to_owned(), source };
    let (sender, receiver) = mpsc::sync_channel(1);
    thread::Builder::new()
        .name("name-look-up".to_owned())
        .spawn(move || {
            // Nobody receives any more if the look-up was given up.
            let _ = sender.send(look_up());
        })
        .map_err(failed)?;
    let until = Instant::now() + limit;
    loop {
        if cancel.is_cancelled() {
            return Err(HttpError::Cancelled);
        }
        match receiver.recv_timeout(POLL) {
            Ok(Ok(addresses)) if addresses.is_empty() => {
                return Err(failed(io::Error::other("the name has no address")).into());
            }
            Ok(found) => return Ok(found.map_err(failed)?),
            Err(RecvTimeoutError::Timeout) if Instant::now() < until => {}
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                return Err(failed(io::ErrorKind::TimedOut.into()).into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks like a resolver whose servers do not answer.
    fn never() -> io::Result<Vec<SocketAddr>> {
        loop {
            thread::park();
        }
    }

    #[test]
    fn the_own_host_is_found() {
        let found = resolve("localhost", 80, &CancelToken::new()).unwrap();
        assert!(found.iter().all(|address| address.ip().is_loopback() && address.port() == 80));
    }

    #[test]
    fn a_look_up_that_hangs_is_cancelled() {
        let cancel = CancelToken::new();
        let ender = cancel.clone();
        let waiting = thread::spawn(move || await_look_up("h", LOOK_UP, &cancel, never));
        ender.cancel();
        assert!(matches!(waiting.join().unwrap().unwrap_err(), HttpError::Cancelled));
    }

    #[test]
    fn a_look_up_that_hangs_is_given_up_and_may_be_retried() {
        let error =
            await_look_up("h", Duration::from_millis(1), &CancelToken::new(), never).unwrap_err();
        assert!(error.is_retryable(), "{error:?}");
        assert!(error.to_string().contains("host h"), "{error}");
    }

    #[test]
    fn no_address_is_an_error() {
        let none = await_look_up("h", LOOK_UP, &CancelToken::new(), || Ok(Vec::new()));
        assert!(matches!(none, Err(HttpError::Dial(DialError::LookUp { .. }))));
    }
}
