//! [`Policy`]: which of a guest's frames may leave it.

use std::net::Ipv4Addr;
use std::sync::{Mutex, PoisonError};

use super::dns;
use super::opened::{Opened, may_ask};
use super::own_addresses::OwnAddresses;
use super::packet::{ETHERNET, Packet};
use crate::egress::{Destination, Egress, Host, Network};

/// What is to be done with a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It goes to passt.
    Pass,
    /// It goes nowhere.
    Drop,
    /// It goes nowhere, and the guest is told.
    Refuse,
    /// It is a question for a name, and the answer is that there is none.
    NoSuchName,
}

/// Which frames may leave a guest.
///
/// IPv4 alone, to where this host's user could send it from any other host: not to this host
/// itself under whatever address, nor to the networks that never leave a link or a data centre's
/// host. In the guest's own network there is nobody but its name server. Of what is left,
/// whatever [`Egress`] says.
#[derive(Debug)]
pub(super) struct Policy {
    network: Network,
    name_server: Option<Ipv4Addr>,
    own: OwnAddresses,
    egress: Egress,
    /// What answers have opened; both directions of the traffic have to do with it.
    opened: Mutex<Opened>,
}

/// Where nobody is to be reached, by RFC 6890 and by what data centres put there.
pub(crate) const FORBIDDEN: [Network; 6] = [
    Network::new(Ipv4Addr::UNSPECIFIED, 8),
    Network::new(Ipv4Addr::new(127, 0, 0, 0), 8),
    // Link-local; the metadata servers of most clouds.
    Network::new(Ipv4Addr::new(169, 254, 0, 0), 16),
    // Protocol assignments; Oracle's metadata server is in there.
    Network::new(Ipv4Addr::new(192, 0, 0, 0), 24),
    // Alibaba's metadata server.
    Network::new(Ipv4Addr::new(100, 100, 100, 200), 32),
    // Azure's host agent.
    Network::new(Ipv4Addr::new(168, 63, 129, 16), 32),
];

/// Multicast, reserved, and broadcast.
pub(crate) const NOT_ONE_HOST: Network = Network::new(Ipv4Addr::new(224, 0, 0, 0), 3);

/// The longest frame that passt takes.
const LONGEST: usize = 65535;

const IPV4: [u8; 2] = [0x08, 0x00];
const ARP: [u8; 2] = [0x08, 0x06];
const DNS_PORT: u16 = 53;
const DHCP_PORT: u16 = 67;

impl Policy {
    /// The policy for a guest in this network, whose name server has this address in it.
    pub(super) fn new(network: Network, name_server: Option<Ipv4Addr>, egress: Egress) -> Self {
        let (own, opened) = (OwnAddresses::default(), Mutex::default());
        Self { network, name_server, own, egress, opened }
    }

    /// What is to be done with a frame from the guest.
    pub(super) fn judge(&self, frame: &[u8]) -> Verdict {
        if frame.len() > LONGEST {
            return Verdict::Drop;
        }
        match frame.get(12..ETHERNET) {
            Some(kind) if kind == ARP => Verdict::Pass,
            Some(kind) if kind == IPV4 => Packet::parse(&frame[ETHERNET..])
                .map_or(Verdict::Drop, |packet| self.judge_packet(&packet)),
            _ => Verdict::Drop,
        }
    }

    /// Judges a packet by RFC 791.
    fn judge_packet(&self, packet: &Packet<'_>) -> Verdict {
        let to = packet.destination;
        if to.is_broadcast() && packet.udp_port() == Some(DHCP_PORT) {
            return Verdict::Pass;
        }
        if NOT_ONE_HOST.contains(to) {
            return Verdict::Drop;
        }
        if self.name_server == Some(to) && packet.udp_port() == Some(DNS_PORT) {
            return self.judge_question(packet);
        }
        let is_forbidden = self.network.contains(to)
            || FORBIDDEN.iter().any(|network| network.contains(to))
            || self.own.contains(to);
        if is_forbidden || !self.is_allowed(packet) { Verdict::Refuse } else { Verdict::Pass }
    }

    /// Judges what goes to the name server.
    fn judge_question(&self, packet: &Packet<'_>) -> Verdict {
        if self.egress == Egress::All {
            return Verdict::Pass;
        }
        let Some(question) = packet.datagram().and_then(dns::question) else {
            return Verdict::Refuse;
        };
        if may_ask(self.destinations(), &question.name) {
            Verdict::Pass
        } else {
            Verdict::NoSuchName
        }
    }

    fn is_allowed(&self, packet: &Packet<'_>) -> bool {
        if self.egress == Egress::All {
            return true;
        }
        let (to, port) = (packet.destination, packet.port());
        self.destinations().iter().any(|destination| match destination.host {
            Host::Network(network) => {
                network.contains(to) && (destination.port.is_none() || destination.port == port)
            }
            Host::Name(_) => false,
        }) || self.opened.lock().unwrap_or_else(PoisonError::into_inner).contains(to, port)
    }

    /// Takes note of a frame to the guest: it may be an answer that opens addresses.
    pub(super) fn note(&self, frame: &[u8]) {
        if self.destinations().is_empty() || frame.get(12..ETHERNET) != Some(&IPV4) {
            return;
        }
        let Some(packet) = Packet::parse(&frame[ETHERNET..]) else { return };
        if Some(packet.source) != self.name_server || packet.udp_source_port() != Some(DNS_PORT) {
            return;
        }
        if let Some((question, answers)) = packet.datagram().and_then(dns::answers) {
            let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
            opened.open(self.destinations(), &question.name, &answers);
        }
    }

    fn destinations(&self) -> &[Destination] {
        match &self.egress {
            Egress::Allow(destinations) => destinations,
            Egress::All | Egress::Nothing => &[],
        }
    }
}
