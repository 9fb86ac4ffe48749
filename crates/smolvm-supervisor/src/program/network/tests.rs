//! Frames as a guest makes them, judged; streams of frames, whole and torn.

use std::io::{self, Read};
use std::net::Ipv4Addr;

use super::dns::tests::{query, response};
use super::policy::{Policy, Verdict};
use super::{frames, refusal};
use crate::egress::{Egress, Network};

const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
const NAME_SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;

const NETWORK: Network = Network::new(Ipv4Addr::new(10, 0, 2, 0), 24);

fn policy() -> Policy {
    Policy::new(NETWORK, Some(NAME_SERVER), Egress::All)
}

fn policy_of(egress: &str) -> Policy {
    Policy::new(NETWORK, Some(NAME_SERVER), egress.parse().unwrap())
}

/// A frame with a datagram between a guest and its name server.
fn datagram(is_answer: bool, content: &[u8]) -> Vec<u8> {
    let mut packet = packet(UDP, NAME_SERVER.octets(), 53, 0, 0);
    if is_answer {
        packet.copy_within(12..16, 16);
        packet[12..16].copy_from_slice(&NAME_SERVER.octets());
        packet.copy_within(20..22, 22);
        packet[20..22].copy_from_slice(&53_u16.to_be_bytes());
    }
    packet[24..26].copy_from_slice(&u16::try_from(8 + content.len()).unwrap().to_be_bytes());
    packet.extend(content);
    ethernet(0x800, &packet)
}

fn ask(policy: &Policy, name: &str) -> Verdict {
    policy.judge(&datagram(false, &query(name)))
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
    let without = Policy::new(NETWORK, None, Egress::All);
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

#[test]
fn where_nothing_may_be_reached_names_have_no_addresses() {
    let policy = policy_of("nothing");
    for to in [[198, 51, 100, 9], [127, 0, 0, 1]] {
        for protocol in [TCP, UDP, ICMP] {
            let frame = ethernet(0x800, &packet(protocol, to, 443, 0, 0));
            assert_eq!(policy.judge(&frame), Verdict::Refuse, "{to:?}");
        }
    }
    assert_eq!(ask(&policy, "a.example"), Verdict::NoSuchName);
    assert_eq!(policy.judge(&ethernet(0x806, &[0; 28])), Verdict::Pass);
}

#[test]
fn a_list_allows_what_is_on_it_alone() {
    let policy = policy_of("allow 198.51.100.0/24 203.0.113.7:443 127.0.0.0/8 10.0.2.0/24");
    let judge = |protocol, to, port, part| {
        policy.judge(&ethernet(0x800, &packet(protocol, to, port, 0, part)))
    };
    for (protocol, to, port, part, verdict) in [
        (TCP, [198, 51, 100, 255], 22, 0, Verdict::Pass),
        (ICMP, [198, 51, 100, 9], 0, 0, Verdict::Pass),
        (UDP, [198, 51, 100, 9], 0, 7, Verdict::Pass),
        (TCP, [198, 51, 101, 0], 22, 0, Verdict::Refuse),
        (TCP, [203, 0, 113, 7], 443, 0, Verdict::Pass),
        (UDP, [203, 0, 113, 7], 443, 0, Verdict::Pass),
        (TCP, [203, 0, 113, 7], 80, 0, Verdict::Refuse),
        (ICMP, [203, 0, 113, 7], 443, 0, Verdict::Refuse),
        // The port of a later part is somewhere else.
        (UDP, [203, 0, 113, 7], 443, 1, Verdict::Refuse),
        (TCP, [203, 0, 113, 8], 443, 0, Verdict::Refuse),
        // These are nobody's to allow.
        (TCP, [127, 0, 0, 1], 443, 0, Verdict::Refuse),
        (TCP, [10, 0, 2, 2], 443, 0, Verdict::Refuse),
    ] {
        assert_eq!(judge(protocol, to, port, part), verdict, "{protocol} {to:?} {port} {part}");
    }
    assert_eq!(ask(&policy, "a.example"), Verdict::NoSuchName);
}

#[test]
fn an_answer_of_the_name_server_opens_the_address_of_an_allowed_name() {
    let policy = policy_of("allow a.example:443 *.b.example");
    let to = [203, 0, 113, 7];
    let judge = |port| policy.judge(&ethernet(0x800, &packet(TCP, to, port, 0, 0)));
    assert_eq!(ask(&policy, "A.Example"), Verdict::Pass);
    assert_eq!(ask(&policy, "b.example"), Verdict::NoSuchName);
    assert_eq!(judge(443), Verdict::Refuse);

    let answer = response("a.example", &[(to.into(), 60), (Ipv4Addr::LOCALHOST, 60)]);
    // Neither another name's, nor what the guest sends, nor another's than the name server's.
    policy.note(&datagram(true, &response("evil.example", &[(to.into(), 60)])));
    policy.judge(&datagram(false, &answer));
    policy.note(&datagram(false, &answer));
    assert_eq!(judge(443), Verdict::Refuse);

    policy.note(&datagram(true, &answer));
    assert_eq!((judge(443), judge(80)), (Verdict::Pass, Verdict::Refuse));
    // A name that has this host's address opens nothing.
    let loopback = ethernet(0x800, &packet(TCP, [127, 0, 0, 1], 443, 0, 0));
    assert_eq!(policy.judge(&loopback), Verdict::Refuse);
    policy.note(&datagram(true, &response("c.b.example", &[(to.into(), 60)])));
    assert_eq!(judge(80), Verdict::Pass);
}

#[test]
fn a_question_that_is_none_is_refused() {
    let policy = policy_of("allow a.example");
    let mut two = query("a.example");
    two[5] = 2;
    for content in [&[][..], &two, &response("a.example", &[])] {
        assert_eq!(policy.judge(&datagram(false, content)), Verdict::Refuse);
    }
    // One in parts is not put together.
    let mut first_part = datagram(false, &query("a.example"));
    first_part[14 + 6] = 0x20;
    assert_eq!(policy.judge(&first_part), Verdict::Refuse);
}

#[test]
fn who_asks_for_a_name_that_is_not_allowed_is_answered() {
    let frame = datagram(false, &query("evil.example"));
    let answer = refusal::no_such_name(&frame).unwrap();
    assert_eq!(answer[..4], u32::try_from(answer.len() - 4).unwrap().to_be_bytes());
    let packet = &answer[4 + 14..];
    assert_eq!(refusal::checksum(&packet[..20]), 0);
    assert_eq!(packet[12..20], [10, 0, 2, 3, 10, 0, 2, 15]);
    assert_eq!(packet[20..24], [0, 53, 0x0f, 0xa0]);
    assert_eq!(packet[28..32], [0x12, 0x34, 0x81, 0x83]);
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
