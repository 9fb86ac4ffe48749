//! What a guest reaches through passt and the filter before it.

use std::ffi::OsString;
use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command};

use smolvm_testkit::network::{
    HOST, HOST_TOO, METADATA, NEIGHBOUR, PORT, SOMEBODY, World, wait_for,
};
use smolvm_testkit::skip;
use tempfile::TempDir;

use super::guest::Guest;
use crate::network::passt::Passt;
use crate::network::{Egress, GATEWAY, GUEST, NAME_SERVER, NETWORK, user};

/// The program of a network, started in the host's namespace as the supervisor starts it.
struct Running {
    filter: Child,
    socket: PathBuf,
    /// Holds the socket.
    _directory: TempDir,
}

impl Running {
    /// `None`, with the reason printed, where there is no passt.
    fn start(world: &World) -> Option<Self> {
        Self::start_with(world, &Egress::All)
    }

    fn start_with(world: &World, egress: &Egress) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let supervisor = directory.path().join("supervisor");
        fs_err::write(&supervisor, smolvm_supervisor::PROGRAM).unwrap();
        std::fs::set_permissions(&supervisor, std::fs::Permissions::from_mode(0o700)).unwrap();
        let name_servers = directory.path().join("resolv.conf");
        fs_err::write(&name_servers, "nameserver 127.0.0.1\n").unwrap();

        let name_server = Some(Ipv4Addr::LOCALHOST);
        let plan = || user(directory.path(), &Passt::find(), name_server, egress).unwrap();
        let plan = world.host.within(plan);
        let Some(helper) = plan.helpers.into_iter().next() else {
            skip(&plan.notice.unwrap());
            return None;
        };
        let mut argv: Vec<OsString> = helper.argv;
        argv[0] = supervisor.into();
        let filter = world.host.within(|| {
            // passt finds the name server of the namespace in the file of everybody.
            let script = r#"mount --bind "$0" /etc/resolv.conf && exec "$@""#;
            let mut command = Command::new("unshare");
            command.args(["--mount", "sh", "-c", script]).arg(&name_servers).args(argv);
            command.spawn().unwrap()
        });
        let socket = helper.wait_for_socket;
        Some(Self { filter, socket, _directory: directory })
    }

    /// passt, which the filter has started.
    fn passt(&self) -> String {
        let filter = self.filter.id();
        let path = format!("/proc/{filter}/task/{filter}/children");
        wait_for(|| {
            let children = fs_err::read_to_string(&path).unwrap();
            let child = children.split_whitespace().next()?;
            let command = fs_err::read_to_string(format!("/proc/{child}/comm")).ok()?;
            command.starts_with("passt").then(|| child.to_owned())
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.filter.kill();
        let _ = self.filter.wait();
    }
}

/// Whether a process is there and no zombie.
fn lives(pid: &str) -> bool {
    let state = fs_err::read_to_string(format!("/proc/{pid}/stat"));
    state.is_ok_and(|state| !state.contains(") Z "))
}

#[test]
fn a_guest_reaches_others_and_not_its_host() {
    let Some(world) = World::new() else { return };
    let (host, internet) = (world.host.servers(), world.internet.servers());
    let Some(running) = Running::start(&world) else { return };
    let mut guest = Guest::connect(&running.socket);

    let mut refused = vec![
        Ipv4Addr::LOCALHOST,
        Ipv4Addr::new(127, 1, 2, 3),
        Ipv4Addr::UNSPECIFIED,
        GATEWAY,
        NAME_SERVER,
        NETWORK,
        HOST,
        HOST_TOO,
    ];
    refused.extend(METADATA);
    for &address in &refused {
        guest.connect_to(address, PORT);
        assert_eq!(guest.expect_refusal(), address);
        guest.send_datagram(address, PORT, b"forbidden");
        assert_eq!(guest.expect_refusal(), address);
    }
    for address in ["::1", "fd77::2", "::ffff:127.0.0.1", "fe80::1"] {
        guest.send_datagram_6(address.parse().unwrap(), PORT);
    }

    // What comes later through the same sockets is there: what came before it would be as well.
    for address in [SOMEBODY, NEIGHBOUR] {
        guest.send_datagram(address, PORT, b"allowed");
        internet.expect_datagram(b"allowed");
    }
    internet.assert_untouched();
    host.assert_untouched();
    guest.connect_to(SOMEBODY, PORT);
    assert_eq!(guest.expect_connected(), SOMEBODY);
    internet.expect_connection();

    // The servers that were not reached can be: from the host itself.
    world.host.within(|| {
        for address in [Ipv4Addr::LOCALHOST, HOST, HOST_TOO] {
            TcpStream::connect((address, PORT)).unwrap();
            host.expect_connection();
        }
        for address in METADATA {
            TcpStream::connect((address, PORT)).unwrap();
            internet.expect_connection();
        }
    });
}

/// The host's name server may listen on loopback alone; its one port is lent to the guest.
#[test]
fn a_guest_asks_the_hosts_name_server() {
    let Some(world) = World::new() else { return };
    let name_server = world.host.within(|| UdpSocket::bind("127.0.0.1:53").unwrap());
    name_server.set_nonblocking(true).unwrap();
    let Some(running) = Running::start(&world) else { return };
    let mut guest = Guest::connect(&running.socket);

    guest.send_datagram(NAME_SERVER, 53, b"question");
    let mut buffer = [0; 100];
    let (length, from) = wait_for(|| name_server.recv_from(&mut buffer).ok());
    assert_eq!(&buffer[..length], b"question");
    name_server.send_to(b"answer", from).unwrap();
    assert_eq!(guest.expect_datagram(), (NAME_SERVER, b"answer".to_vec()));
}

/// What a guest asks a name server for: the address of this name, by RFC 1035.
fn question(name: &str) -> Vec<u8> {
    let mut message = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).unwrap());
        message.extend(label.as_bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    message
}

/// The answer to a question: the name has these addresses for a minute.
fn answer(question: &[u8], addresses: &[Ipv4Addr]) -> Vec<u8> {
    let mut message = question.to_vec();
    message[2..4].copy_from_slice(&[0x81, 0x80]);
    message[7] = u8::try_from(addresses.len()).unwrap();
    for address in addresses {
        message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        message.extend(address.octets());
    }
    message
}

#[test]
fn a_guest_reaches_what_is_allowed_and_nothing_else() {
    let Some(world) = World::new() else { return };
    let (host, internet) = (world.host.servers(), world.internet.servers());
    let allowed = format!("allow {NEIGHBOUR}:{PORT} {HOST}/24 127.0.0.0/8 169.254.0.0/16");
    let Some(running) = Running::start_with(&world, &allowed.parse().unwrap()) else { return };
    let mut guest = Guest::connect(&running.socket);

    for (address, port) in [
        (SOMEBODY, PORT),
        (NEIGHBOUR, PORT + 1),
        // No list allows this host, or metadata.
        (HOST, PORT),
        (Ipv4Addr::LOCALHOST, PORT),
        (METADATA[0], PORT),
    ] {
        guest.connect_to(address, port);
        assert_eq!(guest.expect_refusal(), address);
        guest.send_datagram(address, port, b"forbidden");
        assert_eq!(guest.expect_refusal(), address);
    }
    guest.send_datagram(NEIGHBOUR, PORT, b"allowed");
    internet.expect_datagram(b"allowed");
    internet.assert_untouched();
    host.assert_untouched();
    guest.connect_to(NEIGHBOUR, PORT);
    assert_eq!(guest.expect_connected(), NEIGHBOUR);
}

/// Names are allowed, not addresses: those are what the name server says at the time.
#[test]
fn the_address_of_an_allowed_name_opens_when_it_is_told() {
    let Some(world) = World::new() else { return };
    let name_server = world.host.within(|| UdpSocket::bind("127.0.0.1:53").unwrap());
    name_server.set_nonblocking(true).unwrap();
    let internet = world.internet.servers();
    let allowed = format!("allow a.example:{PORT} *.b.example");
    let Some(running) = Running::start_with(&world, &allowed.parse().unwrap()) else { return };
    let mut guest = Guest::connect(&running.socket);
    let mut buffer = [0; 100];

    for forbidden in ["evil.example", "b.example", "secret.evil.example"] {
        guest.send_datagram(NAME_SERVER, 53, &question(forbidden));
        let (from, response) = guest.expect_datagram();
        assert_eq!(from, NAME_SERVER);
        assert_eq!(response[3] & 0xf, 3, "{forbidden}: there is no such name");
    }
    guest.send_datagram(SOMEBODY, PORT, b"before");
    assert_eq!(guest.expect_refusal(), SOMEBODY);

    // A name's owner may say what he likes: this host is not opened by it.
    let told = [SOMEBODY, HOST, Ipv4Addr::LOCALHOST, METADATA[0]];
    guest.send_datagram(NAME_SERVER, 53, &question("a.example"));
    let (length, from) = wait_for(|| name_server.recv_from(&mut buffer).ok());
    assert_eq!(buffer[12..length], question("a.example")[12..], "the first question that came");
    name_server.send_to(&answer(&buffer[..length], &told), from).unwrap();
    let (_, response) = guest.expect_datagram();
    assert_eq!(response[7], 4);

    guest.send_datagram(SOMEBODY, PORT + 1, b"another port");
    assert_eq!(guest.expect_refusal(), SOMEBODY);
    for address in &told[1..] {
        guest.send_datagram(*address, PORT, b"forbidden");
        assert_eq!(guest.expect_refusal(), *address);
    }
    guest.send_datagram(SOMEBODY, PORT, b"after");
    internet.expect_datagram(b"after");
}

/// A guest with a DHCP client of its own is told the address that the agent has set up.
#[test]
fn a_guest_is_told_the_address_that_it_has() {
    let Some(world) = World::new() else { return };
    let Some(running) = Running::start(&world) else { return };
    let mut guest = Guest::connect(&running.socket);
    // RFC 2131: a discovery has one byte each for operation, hardware, length of address and hops;
    // the magic number of the options is at 236, then the option 53, of type 1.
    let mut discovery = vec![1, 1, 6, 0];
    discovery.resize(236, 0);
    discovery.extend([99, 130, 83, 99, 53, 1, 1, 255]);
    discovery.resize(300, 0);
    guest.send_datagram(Ipv4Addr::BROADCAST, 67, &discovery);
    let (from, offer) = guest.expect_datagram();
    assert_eq!(from, GATEWAY);
    assert_eq!(offer[16..20], GUEST.octets(), "the address on offer");
}

/// Behaviour 48: what serves a VM's network does not outlive the VM.
#[test]
fn the_network_ends_with_the_vmm() {
    let Some(world) = World::new() else { return };
    let Some(mut running) = Running::start(&world) else { return };
    let guest = Guest::connect(&running.socket);
    let passt = running.passt();
    drop(guest);
    assert!(wait_for(|| running.filter.try_wait().unwrap()).success());
    wait_for(|| (!lives(&passt)).then_some(()));
}

/// Behaviour 48.
#[test]
fn passt_ends_with_the_filter() {
    let Some(world) = World::new() else { return };
    let Some(mut running) = Running::start(&world) else { return };
    let mut guest = Guest::connect(&running.socket);
    let passt = running.passt();
    running.filter.kill().unwrap();
    guest.expect_end();
    wait_for(|| (!lives(&passt)).then_some(()));
}
