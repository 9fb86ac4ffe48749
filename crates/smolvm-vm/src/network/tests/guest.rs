//! A guest, as far as the network knows one: the frames that it sends and receives.

use std::io::{Read as _, Write as _};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use smolvm_testkit::network::wait_for;

use crate::network::{GATEWAY, GATEWAY_MAC, GUEST, GUEST_MAC};

const TCP: u8 = 6;
const UDP: u8 = 17;
/// The port that everything is sent from.
const SOURCE_PORT: u16 = 4000;

/// A guest whose device is connected to the network's socket, as QEMU connects it.
pub(super) struct Guest {
    device: UnixStream,
}

impl Guest {
    pub(super) fn connect(socket: &Path) -> Self {
        // The socket has its path a moment before it is listened on.
        let device = wait_for(|| UnixStream::connect(socket).ok());
        device.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Self { device }
    }

    /// Sends the first packet of a TCP connection.
    pub(super) fn connect_to(&mut self, to: Ipv4Addr, port: u16) {
        let mut tcp = [SOURCE_PORT.to_be_bytes(), port.to_be_bytes()].concat();
        // Sequence number, acknowledgement, length and SYN, window, checksum, urgent.
        tcp.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0]);
        self.send(TCP, to, &tcp);
    }

    pub(super) fn send_datagram(&mut self, to: Ipv4Addr, port: u16, content: &[u8]) {
        let length = u16::try_from(8 + content.len()).unwrap();
        let fields = [SOURCE_PORT, port, length, 0];
        let mut udp: Vec<u8> = fields.into_iter().flat_map(u16::to_be_bytes).collect();
        udp.extend(content);
        self.send(UDP, to, &udp);
    }

    /// Sends a datagram over IPv6.
    pub(super) fn send_datagram_6(&mut self, to: std::net::Ipv6Addr, port: u16) {
        let mut packet = vec![0x60, 0, 0, 0, 0, 8, UDP, 64];
        packet.extend("fd77::15".parse::<std::net::Ipv6Addr>().unwrap().octets());
        packet.extend(to.octets());
        let fields = [SOURCE_PORT, port, 8, 0];
        packet.extend(fields.into_iter().flat_map(u16::to_be_bytes));
        self.send_frame([0x86, 0xdd], &packet);
    }

    fn send(&mut self, protocol: u8, to: Ipv4Addr, content: &[u8]) {
        let length = u16::try_from(20 + content.len()).unwrap().to_be_bytes();
        let mut packet = vec![0x45, 0, length[0], length[1], 0, 0, 0, 0, 64, protocol, 0, 0];
        packet.extend(GUEST.octets());
        packet.extend(to.octets());
        packet.extend(content);
        self.send_frame([8, 0], &packet);
    }

    fn send_frame(&mut self, kind: [u8; 2], content: &[u8]) {
        let mac = |text: &str| -> Vec<u8> {
            text.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
        };
        let frame = [mac(GATEWAY_MAC), mac(GUEST_MAC), kind.into(), content.into()].concat();
        self.device.write_all(&u32::try_from(frame.len()).unwrap().to_be_bytes()).unwrap();
        self.device.write_all(&frame).unwrap();
    }

    /// The next IPv4 packet that comes.
    fn receive(&mut self) -> Vec<u8> {
        loop {
            let mut length = [0; 4];
            self.device.read_exact(&mut length).unwrap();
            let mut frame = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap()];
            self.device.read_exact(&mut frame).unwrap();
            if frame[12..14] == [8, 0] {
                return frame.split_off(14);
            }
        }
    }

    /// Receives the answer to a packet that was refused: to which address it had gone.
    pub(super) fn expect_refusal(&mut self) -> Ipv4Addr {
        let packet = self.receive();
        assert_eq!(packet[9], 1, "{packet:?} is not ICMP");
        assert_eq!(packet[12..16], GATEWAY.octets());
        assert_eq!(packet[20..22], [3, 13], "administratively prohibited");
        let refused: [u8; 4] = packet[28 + 16..28 + 20].try_into().unwrap();
        refused.into()
    }

    /// Receives a datagram: from where, and what.
    pub(super) fn expect_datagram(&mut self) -> (Ipv4Addr, Vec<u8>) {
        let mut packet = self.receive();
        assert_eq!(packet[9], UDP, "{packet:?} is not UDP");
        let source: [u8; 4] = packet[12..16].try_into().unwrap();
        (source.into(), packet.split_off(28))
    }

    /// Receives the second packet of a TCP connection.
    pub(super) fn expect_connected(&mut self) -> Ipv4Addr {
        let packet = self.receive();
        assert_eq!(packet[9], TCP, "{packet:?} is not TCP");
        assert_eq!(packet[33] & 0x3f, 0x12, "SYN and ACK");
        let source: [u8; 4] = packet[12..16].try_into().unwrap();
        source.into()
    }

    /// Waits until nobody is at the other end any more.
    pub(super) fn expect_end(&mut self) {
        // Reset is an end as well.
        let end = self.device.read_to_end(&mut Vec::new());
        assert!(end.is_ok() || end.unwrap_err().kind() == std::io::ErrorKind::ConnectionReset);
    }
}
