//! Frames as a guest makes them, judged; streams of frames, whole and torn.

use std::io::{self, Read};
use std::net::Ipv4Addr;

use super::policy::{Policy, Verdict};
use super::{frames, refusal};

const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
const NAME_SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;

fn policy() -> Policy {
    Policy::new((Ipv4Addr::new(10, 0, 2, 0), 24), Some(NAME_SERVER))
}

fn ethernet(kind: u16, content: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    frame.extend(kind.to_be_bytes());
    frame.extend(content);
    frame
}

/// A packet of 20 + `options` + 8 bytes.
fn packet(protocol: u8, to: [u8; 4], port: u16, options: u8, fragment: u16) -> Vec<u8> {
    let mut packet = vec![0x45 + options / 4, 0, 0, 28 + options, 0, 0, 0, 0, 64, protocol, 0, 0];
    packet[6..8].copy_from_slice(&fragment.to_be_bytes());
    packet.extend([10, 0, 2, 15]);
    packet.extend(to);
    packet.resize(20 + usize::from(options), 1);
    packet.extend(4000_u16.to_be_bytes());
    packet.extend(port.to_be_bytes());
    packet.extend([0, 8, 0, 0]);
    packet
}

fn judge(protocol: u8, to: [u8; 4], port: u16) -> Verdict {
    policy().judge(&ethernet(0x800, &packet(protocol, to, port, 0, 0)))
}

#[test]
fn other_hosts_are_reached() {
    for to in
        [[198, 51, 100, 9], [10, 211, 7, 9], [192, 168, 201, 77], [172, 29, 77, 2], [9, 9, 9, 9]]
    {
        for protocol in [TCP, UDP, ICMP] {
            assert_eq!(judge(protocol, to, 443), Verdict::Pass, "{to:?}");
        }
    }
}

#[test]
fn neither_this_host_nor_its_link_is_reached() {
    let forbidden = [
        [127, 0, 0, 1],
        [127, 255, 255, 254],
        [0, 0, 0, 0],
        [0, 1, 2, 3],
        [169, 254, 169, 254],
        [169, 254, 0, 23],
        [192, 0, 0, 192],
        [100, 100, 100, 200],
        [168, 63, 129, 16],
        [10, 0, 2, 2],
        [10, 0, 2, 77],
    ];
    for to in forbidden {
        for protocol in [TCP, UDP, ICMP] {
            assert_eq!(judge(protocol, to, 53), Verdict::Refuse, "{to:?}");
        }
    }
    for to in [[224, 0, 0, 251], [239, 255, 255, 250], [255, 255, 255, 255], [240, 0, 0, 1]] {
        assert_eq!(judge(UDP, to, 5353), Verdict::Drop, "{to:?}");
    }
}

#[test]
fn the_name_server_has_one_port() {
    let to = NAME_SERVER.octets();
    assert_eq!(judge(UDP, to, 53), Verdict::Pass);
    assert_eq!(judge(UDP, to, 54), Verdict::Refuse);
    assert_eq!(judge(TCP, to, 53), Verdict::Refuse);
    let with_options =
        |options, port| policy().judge(&ethernet(0x800, &packet(UDP, to, port, options, 0)));
    // With options the port is further on; where it would be without them lies 0x0101.
    assert_eq!(with_options(12, 53), Verdict::Pass);
    assert_eq!(with_options(12, 54), Verdict::Refuse);
    let later_part = packet(UDP, to, 53, 0, 1);
    assert_eq!(policy().judge(&ethernet(0x800, &later_part)), Verdict::Refuse);
    let mut without = Policy::new((Ipv4Addr::new(10, 0, 2, 0), 24), None);
    assert_eq!(without.judge(&ethernet(0x800, &packet(UDP, to, 53, 0, 0))), Verdict::Refuse);
}

#[test]
fn a_guest_may_ask_for_its_address_and_for_addresses_of_others() {
    assert_eq!(judge(UDP, [255; 4], 67), Verdict::Pass);
    assert_eq!(policy().judge(&ethernet(0x806, &[0; 28])), Verdict::Pass);
}

#[test]
fn all_but_ipv4_stays_inside() {
    let content = packet(TCP, [198, 51, 100, 9], 443, 0, 0);
    // IPv6, VLANs, IPv6 in the clothes of IPv4, a length where the kind should be.
    for kind in [0x86dd, 0x8100, 0x88a8, 0x0600, 28] {
        assert_eq!(policy().judge(&ethernet(kind, &content)), Verdict::Drop);
    }
    let mut ipv6 = content;
    ipv6[0] = 0x65;
    assert_eq!(policy().judge(&ethernet(0x800, &ipv6)), Verdict::Drop);
}

/// What is cut off anywhere never passes for something that it is not, and stops nothing.
#[test]
fn torn_frames_are_dropped() {
    let whole = ethernet(0x800, &packet(UDP, NAME_SERVER.octets(), 53, 0, 0));
    for length in 0..whole.len() {
        let verdict = policy().judge(&whole[..length]);
        let has_port = length >= 14 + 24;
        assert_eq!(verdict == Verdict::Pass, has_port, "{length}");
        let _ = refusal::answer(&whole[..length], GATEWAY);
    }
    assert_eq!(policy().judge(&vec![8; 65536]), Verdict::Drop);
}

#[test]
fn a_refusal_goes_back_to_who_sent_the_packet() {
    let frame = ethernet(0x800, &packet(TCP, [169, 254, 169, 254], 80, 0, 0));
    let answer = refusal::answer(&frame, GATEWAY).unwrap();
    assert_eq!(answer[..4], u32::try_from(answer.len() - 4).unwrap().to_be_bytes());
    let answer = &answer[4..];
    assert_eq!(answer[..6], frame[6..12]);
    assert_eq!(answer[6..12], frame[..6]);
    let (ip, icmp) = answer[14..].split_at(20);
    assert_eq!(ip[12..20], [10, 0, 2, 2, 10, 0, 2, 15]);
    assert_eq!(icmp[..2], [3, 13]);
    assert_eq!(icmp[8..], frame[14..42], "the packet's header and eight bytes more");
    // A sum over a whole that holds its own sum is zero.
    assert_eq!((refusal::checksum(ip), refusal::checksum(icmp)), (0, 0));

    // Errors are not answered with errors, nor are parts of packets.
    let mut error = packet(ICMP, [169, 254, 169, 254], 0, 0, 0);
    error[20] = 3;
    assert_eq!(refusal::answer(&ethernet(0x800, &error), GATEWAY), None);
    let part = packet(TCP, [169, 254, 169, 254], 80, 0, 1);
    assert_eq!(refusal::answer(&ethernet(0x800, &part), GATEWAY), None);
}

/// Gives its bytes out in pieces of changing lengths.
struct Pieces<'a>(&'a [u8], usize);

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.1 = self.1 * 5 % 1021 + 1;
        let length = self.1.min(self.0.len()).min(buffer.len());
        let (piece, rest) = self.0.split_at(length);
        buffer[..length].copy_from_slice(piece);
        self.0 = rest;
        Ok(length)
    }
}

#[test]
fn frames_keep_their_order_and_their_borders() {
    let (mut stream, mut expected) = (Vec::new(), Vec::<u8>::new());
    for number in 0..2000_usize {
        let content = vec![u8::try_from(number % 251).unwrap(); number * 37 % 1500];
        let mut framed = u32::try_from(content.len()).unwrap().to_be_bytes().to_vec();
        framed.extend(content);
        stream.extend(&framed);
        if number % 3 != 0 {
            expected.extend(&framed);
        }
    }
    let (mut passed, mut number) = (Vec::<u8>::new(), 0);
    let pass = |_: &[u8]| {
        number += 1;
        Ok((number - 1) % 3 != 0)
    };
    let write = |frames: &[u8]| {
        passed.extend(frames);
        Ok(())
    };
    frames::pump(Pieces(&stream, 1), write, pass).unwrap();
    assert!(passed == expected);
}

#[test]
fn a_length_that_no_vmm_sends_ends_the_stream() {
    for length in [u32::MAX, 1 << 20, 256 << 10] {
        let stream = length.to_be_bytes();
        let error = frames::pump(&stream[..], |_| Ok(()), |_| Ok(true)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
