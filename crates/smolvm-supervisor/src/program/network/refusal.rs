//! The answer to a packet that may not leave, so that whoever sent it need not wait for a time-out:
//! an ICMP message (RFC 792, RFC 1812), or that a name does not exist. Programs in images for clouds
//! ask for metadata at boot.

use std::net::Ipv4Addr;

use super::dns;
use super::frames::PREFIX;
use super::packet::{ETHERNET, Packet, UDP};

const IP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;
/// How much of the refused packet's content is in the answer.
const QUOTED: usize = 8;

const ICMP: u8 = 1;
const UNREACHABLE: u8 = 3;
const ADMINISTRATIVELY_PROHIBITED: u8 = 13;
/// The ICMP messages that are questions; all others are answers, and are not answered.
const ECHO_REQUEST: u8 = 8;

/// The frame that tells the sender of `frame`, an IPv4 packet, that `gateway` does not let it
/// pass; with its length before it. `None` where no answer is due.
pub(super) fn answer(frame: &[u8], gateway: Ipv4Addr) -> Option<Vec<u8>> {
    let packet = frame.get(ETHERNET..)?;
    let header = usize::from(packet.first()? & 0xf) * 4;
    let fragment = u16::from_be_bytes([*packet.get(6)?, *packet.get(7)?]);
    let is_answer = *packet.get(9)? == ICMP && *packet.get(header)? != ECHO_REQUEST;
    if header < IP_HEADER || fragment & 0x1fff != 0 || is_answer {
        return None;
    }
    let quoted = packet.get(..packet.len().min(header + QUOTED))?;
    let source = packet.get(12..16)?;

    let mut icmp = vec![UNREACHABLE, ADMINISTRATIVELY_PROHIBITED, 0, 0, 0, 0, 0, 0];
    icmp.extend(quoted);
    let sum = checksum(&icmp);
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());

    frame_back(frame, ICMP, gateway, source, &icmp)
}

/// The frame that tells the sender of `frame`, a question for a name, that there is none; with its
/// length before it. `None` where it is no question.
pub(super) fn no_such_name(frame: &[u8]) -> Option<Vec<u8>> {
    let packet = Packet::parse(frame.get(ETHERNET..)?)?;
    let message = packet.datagram()?;
    let response = dns::no_such_name(message, &dns::question(message)?);
    let length = u16::try_from(UDP_HEADER + response.len()).ok()?;
    let mut udp = packet.udp_port()?.to_be_bytes().to_vec();
    udp.extend(packet.udp_source_port()?.to_be_bytes());
    udp.extend(length.to_be_bytes());
    // No checksum (RFC 768).
    udp.extend([0, 0]);
    udp.extend(response);
    frame_back(frame, UDP, packet.destination, &packet.source.octets(), &udp)
}

/// A frame with an IPv4 packet to whoever sent `frame`.
fn frame_back(
    frame: &[u8],
    protocol: u8,
    from: Ipv4Addr,
    to: &[u8],
    content: &[u8],
) -> Option<Vec<u8>> {
    let length = u16::try_from(IP_HEADER + content.len()).ok()?;
    let mut ip = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0];
    ip[2..4].copy_from_slice(&length.to_be_bytes());
    ip.extend(from.octets());
    ip.extend(to);
    let sum = checksum(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());

    let size = u32::try_from(ETHERNET + ip.len() + content.len()).ok()?;
    let mut answer = Vec::with_capacity(PREFIX + ETHERNET + ip.len() + content.len());
    answer.extend(size.to_be_bytes());
    // Back to the device that it came from, from the one that it was sent to.
    answer.extend(&frame[6..12]);
    answer.extend(&frame[..6]);
    answer.extend(&frame[12..ETHERNET]);
    answer.extend(ip);
    answer.extend(content);
    Some(answer)
}

/// The Internet checksum (RFC 1071).
pub(super) fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|word| match word {
        [high, low] => u32::from(u16::from_be_bytes([*high, *low])),
        [high] => u32::from(*high) << 8,
        _ => 0,
    });
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    // It fits: the loop above has seen to that.
    !u16::try_from(sum).unwrap_or(0)
}
