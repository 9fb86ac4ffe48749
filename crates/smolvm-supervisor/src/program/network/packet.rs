//! [`Packet`]: an IPv4 packet (RFC 791) of a guest's, of which nothing is believed.

use std::net::Ipv4Addr;

/// The bytes of an Ethernet header.
pub(super) const ETHERNET: usize = 14;

pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
/// The bytes of a UDP header.
const UDP_HEADER: usize = 8;

/// A packet whose header is there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Packet<'a> {
    pub(super) source: Ipv4Addr,
    pub(super) destination: Ipv4Addr,
    protocol: u8,
    /// It is not the first part of one that was taken apart.
    is_later_part: bool,
    /// It is the first part, and others follow.
    has_later_parts: bool,
    content: &'a [u8],
}

impl<'a> Packet<'a> {
    /// `None`: it is no IPv4 packet.
    pub(super) fn parse(packet: &'a [u8]) -> Option<Self> {
        let fixed: &[u8; 20] = packet.first_chunk()?;
        let header = usize::from(fixed[0] & 0xf) * 4;
        if fixed[0] >> 4 != 4 || header < fixed.len() {
            return None;
        }
        let address =
            |at: usize| Ipv4Addr::new(fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]);
        let part = u16::from_be_bytes([fixed[6], fixed[7]]);
        Some(Self {
            source: address(12),
            destination: address(16),
            protocol: fixed[9],
            is_later_part: part & 0x1fff != 0,
            has_later_parts: part & 0x2000 != 0,
            content: packet.get(header..).unwrap_or_default(),
        })
    }

    /// The port that it goes to. `None`: its protocol has none, or it is a later part.
    pub(super) fn port(&self) -> Option<u16> {
        matches!(self.protocol, TCP | UDP).then(|| self.number(2)).flatten()
    }

    /// The port that it goes to, if it is UDP.
    pub(super) fn udp_port(&self) -> Option<u16> {
        (self.protocol == UDP).then(|| self.number(2)).flatten()
    }

    /// The port that it comes from, if it is UDP.
    pub(super) fn udp_source_port(&self) -> Option<u16> {
        (self.protocol == UDP).then(|| self.number(0)).flatten()
    }

    /// What a UDP packet carries, if it is whole.
    pub(super) fn datagram(&self) -> Option<&'a [u8]> {
        if self.has_later_parts {
            return None;
        }
        self.udp_port()?;
        let length = usize::from(self.number(4)?);
        self.content.get(UDP_HEADER..length)
    }

    fn number(&self, at: usize) -> Option<u16> {
        let &[high, low] = self.content.get(at..at + 2)? else { return None };
        (!self.is_later_part).then(|| u16::from_be_bytes([high, low]))
    }
}
