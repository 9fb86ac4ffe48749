//! [`OwnAddresses`]: whether an address is one of this host's.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Which addresses are this host's, as the kernel says at most a [`MOMENT`] ago.
#[derive(Debug, Default)]
pub(super) struct OwnAddresses {
    known: Mutex<HashMap<Ipv4Addr, (Instant, bool)>>,
}

/// How long an answer counts: addresses come and go, and asking costs a few microseconds.
const MOMENT: Duration = Duration::from_secs(1);
/// How many answers are kept, whatever number of addresses a guest sends to.
const KEPT: usize = 1024;

impl OwnAddresses {
    /// Whether this host would deliver to itself what is sent to `address`.
    pub(super) fn contains(&self, address: Ipv4Addr) -> bool {
        let now = Instant::now();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((since, is_own)) = known.get(&address)
            && now.duration_since(*since) < MOMENT
        {
            return *is_own;
        }
        let is_own = ask(address);
        if known.len() >= KEPT {
            known.clear();
        }
        known.insert(address, (now, is_own));
        is_own
    }
}

/// What a host sends to an address of its own it sends from that address. Connecting a UDP socket
/// sends nothing, it looks the route up.
fn ask(address: Ipv4Addr) -> bool {
    let source = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|socket| {
        socket.connect((address, 1))?;
        socket.local_addr()
    });
    match source {
        Ok(source) => source.ip() == IpAddr::V4(address),
        // Nobody can be reached there, or not by one packet; passt will find the same.
        Err(error) => !matches!(
            error.kind(),
            io::ErrorKind::NetworkUnreachable
                | io::ErrorKind::HostUnreachable
                | io::ErrorKind::PermissionDenied
                | io::ErrorKind::InvalidInput
        ),
    }
}
