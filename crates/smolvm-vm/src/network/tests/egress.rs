//! What a guest reaches through passt and the filter before it.

use std::ffi::OsString;
use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command};

use smolvm_testkit::skip;
use tempfile::TempDir;

use super::guest::Guest;
use super::world::{HOST, HOST_TOO, METADATA, NEIGHBOUR, PORT, SOMEBODY, World, wait_for};
use crate::network::passt::Passt;
use crate::network::{GATEWAY, GUEST, NAME_SERVER, NETWORK, user};

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
        let directory = tempfile::tempdir().unwrap();
        let supervisor = directory.path().join("supervisor");
        fs_err::write(&supervisor, smolvm_supervisor::PROGRAM).unwrap();
        std::fs::set_permissions(&supervisor, std::fs::Permissions::from_mode(0o700)).unwrap();
        let name_servers = directory.path().join("resolv.conf");
        fs_err::write(&name_servers, "nameserver 127.0.0.1\n").unwrap();

        let name_server = Some(Ipv4Addr::LOCALHOST);
        let plan = || user(directory.path(), &Passt::find(), name_server).unwrap();
        let plan = world.host.within(plan);
        let Some(helper) = plan.helper else {
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
