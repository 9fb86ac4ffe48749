//! [`Policy`]: which of a guest's frames may leave it.

use std::net::Ipv4Addr;

use super::own_addresses::OwnAddresses;

/// What is to be done with a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It goes to passt.
    Pass,
    /// It goes nowhere.
    Drop,
    /// It goes nowhere, and the guest is told.
    Refuse,
}

/// Which frames may leave a guest.
///
/// IPv4 alone, to where this host's user could send it from any other host: not to this host
/// itself under whatever address, nor to the networks that never leave a link or a data centre's
/// host. In the guest's own network there is nobody but its name server.
#[derive(Debug)]
pub(super) struct Policy {
    network: Network,
    name_server: Option<Ipv4Addr>,
    own: OwnAddresses,
}

/// Addresses with the same first bits.
#[derive(Debug, Clone, Copy)]
struct Network {
    address: Ipv4Addr,
    prefix: u8,
}

/// Where nobody is to be reached, by RFC 6890 and by what data centres put there.
const FORBIDDEN: [Network; 6] = [
    Network::new([0, 0, 0, 0], 8),
    Network::new([127, 0, 0, 0], 8),
    // Link-local; the metadata servers of most clouds.
    Network::new([169, 254, 0, 0], 16),
    // Protocol assignments; Oracle's metadata server is in there.
    Network::new([192, 0, 0, 0], 24),
    // Alibaba's metadata server.
    Network::new([100, 100, 100, 200], 32),
    // Azure's host agent.
    Network::new([168, 63, 129, 16], 32),
];

/// Multicast, reserved, and broadcast.
const NOT_ONE_HOST: Network = Network::new([224, 0, 0, 0], 3);

/// The bytes of an Ethernet header.
pub(super) const ETHERNET: usize = 14;
/// The longest frame that passt takes.
const LONGEST: usize = 65535;

const IPV4: [u8; 2] = [0x08, 0x00];
const ARP: [u8; 2] = [0x08, 0x06];
const UDP: u8 = 17;
const DNS_PORT: u16 = 53;
const DHCP_PORT: u16 = 67;

impl Policy {
    /// The policy for a guest in this network, whose name server has this address in it.
    pub(super) fn new(network: (Ipv4Addr, u8), name_server: Option<Ipv4Addr>) -> Self {
        let (address, prefix) = network;
        Self { network: Network { address, prefix }, name_server, own: OwnAddresses::default() }
    }

    /// What is to be done with a frame from the guest.
    pub(super) fn judge(&mut self, frame: &[u8]) -> Verdict {
        if frame.len() > LONGEST {
            return Verdict::Drop;
        }
        match frame.get(12..ETHERNET) {
            Some(kind) if kind == ARP => Verdict::Pass,
            Some(kind) if kind == IPV4 => self.judge_packet(&frame[ETHERNET..]),
            _ => Verdict::Drop,
        }
    }

    /// Judges a packet by RFC 791.
    fn judge_packet(&mut self, packet: &[u8]) -> Verdict {
        let Some(&[a, b, c, d]) = packet.get(16..20) else { return Verdict::Drop };
        if packet[0] >> 4 != 4 {
            return Verdict::Drop;
        }
        let destination = Ipv4Addr::new(a, b, c, d);
        if destination.is_broadcast() && udp_port(packet) == Some(DHCP_PORT) {
            return Verdict::Pass;
        }
        if NOT_ONE_HOST.contains(destination) {
            return Verdict::Drop;
        }
        if self.name_server == Some(destination) && udp_port(packet) == Some(DNS_PORT) {
            return Verdict::Pass;
        }
        if self.network.contains(destination)
            || FORBIDDEN.iter().any(|network| network.contains(destination))
            || self.own.contains(destination)
        {
            return Verdict::Refuse;
        }
        Verdict::Pass
    }
}

impl Network {
    const fn new(address: [u8; 4], prefix: u8) -> Self {
        let [a, b, c, d] = address;
        Self { address: Ipv4Addr::new(a, b, c, d), prefix }
    }

    fn contains(self, address: Ipv4Addr) -> bool {
        let differing = self.address.to_bits() ^ address.to_bits();
        differing.leading_zeros() >= u32::from(self.prefix)
    }
}

/// The port that a packet goes to, if it is UDP and not a later part of a packet.
fn udp_port(packet: &[u8]) -> Option<u16> {
    let header = usize::from(packet[0] & 0xf) * 4;
    let is_later_part = u16::from_be_bytes([packet[6], packet[7]]) & 0x1fff != 0;
    if packet[9] != UDP || is_later_part || header < 20 {
        return None;
    }
    let &[high, low] = packet.get(header + 2..header + 4)? else { return None };
    Some(u16::from_be_bytes([high, low]))
}
