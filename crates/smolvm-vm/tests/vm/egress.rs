//! What a guest reaches that tries to get out: from inside real guests, on a host and in an
//! Internet of the test's own.

use std::io::Read as _;
use std::net::{Ipv4Addr, TcpStream};
use std::thread;
use std::time::Duration;

use smolvm_testkit::network::{
    HOST, HOST_TOO, METADATA, NEIGHBOUR, NameServer, Namespace, PORT, SOMEBODY, Servers, World,
    name_server_of_this_host, wait_for,
};
use smolvm_testkit::skip;
use smolvm_vm::{Command, Egress, NetworkMode, Vm, VmError, VmErrorKind};

use super::backend;
use super::images::{Image, Site, TINY};

/// The names of this Internet.
const NAMES: &[(&str, Ipv4Addr)] = &[
    ("allowed.example", SOMEBODY),
    ("other.example", NEIGHBOUR),
    ("metadata.below.example", METADATA[0]),
    ("host.below.example", HOST),
];

/// A host with servers on all its addresses, and an Internet with servers and a name server.
struct Scene {
    world: World,
    host: Servers,
    internet: Servers,
    names: NameServer,
    site: Site,
    image: Image,
}

impl Scene {
    /// `None`, said aloud, where it cannot be made.
    fn new() -> Option<Self> {
        let image = Image::find(TINY)?;
        let world = World::new()?;
        let Some(server) = name_server_of_this_host() else {
            skip("/etc/resolv.conf names no server by an IPv4 address");
            return None;
        };
        let names = if server.is_loopback() {
            world.host.name_server(server, NAMES)
        } else {
            world.internet.add_address(server);
            world.internet.name_server(server, NAMES)
        };
        world.host.forward();
        let (host, internet) = (world.host.servers(), world.internet.servers());
        Some(Self { world, host, internet, names, site: Site::new(), image })
    }

    fn boot(&self, mode: NetworkMode, egress: &str) -> Vm {
        let config = self.image.config(&self.site).mem_size_mib(192).network(mode);
        let config = config.egress(egress.parse().unwrap());
        self.world.host.within(|| backend::boot(config)).unwrap()
    }

    /// Has the guest do this, as root; nobody may have heard of it.
    fn assert_refused(&self, vm: &Vm, line: &str) {
        assert_failed(vm, line);
        self.assert_untouched(line);
    }

    fn assert_untouched(&self, what: &str) {
        println!("refused: {what}");
        self.host.assert_untouched();
        self.internet.assert_untouched();
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        // Who has which address in the namespace of this host, which is gone with it.
        let _ = fs_err::remove_dir_all(format!("/run/smolvm/tap/{}", self.world.host.number()));
    }
}

/// Has the guest do this, as root; nothing may come of it there.
fn assert_failed(vm: &Vm, line: &str) {
    let result = vm.run(Command::shell(line).timeout(Duration::from_mins(2))).unwrap();
    let said = result.stdout();
    assert!(!result.ok(), "{line}: {result:?}");
    // What could not be tried was not refused.
    assert!(!matches!(result.exit_code, 126 | 127 | 134 | 139), "{line}: {result:?}");
    assert!(!said.contains("secret") && !said.contains("bytes from"), "{line}: {result:?}");
}

fn run(vm: &Vm, line: &str) -> String {
    let result = vm.run(line).unwrap();
    assert!(result.ok(), "{line}: {result:?}");
    result.stdout().trim().to_owned()
}

/// How many attempts are made at once; all have time to be made within their time-outs.
const AT_ONCE: usize = 16;

/// What a datagram of [`udp`] says: it asks for a file called x (RFC 1350, RFC 2349).
const DATAGRAM: &[u8] = b"\0\x01x\0octet\0tsize\x000\0";

/// A connection that waits for nothing.
fn connect(to: impl std::fmt::Display, port: u16) -> String {
    format!("timeout 3 nc {to} {port} < /dev/null; true")
}

/// A connection; its failure is the command's. Debian's static busybox crashes at a time-out of
/// wget's own.
fn tcp(to: impl std::fmt::Display, port: u16) -> String {
    format!("timeout 4 wget -q -O - http://{to}:{port}/")
}

/// A datagram; there is no failure of it that the guest must hear of.
fn udp(to: impl std::fmt::Display, port: u16) -> String {
    format!("timeout 3 tftp -g -r x -l /tmp/x {to} {port}; false")
}

/// What the guest tries, of which nothing may come of.
struct Attempts {
    /// Those that do not disturb each other.
    at_once: Vec<String>,
    /// Those that change the guest.
    in_turn: Vec<String>,
}

fn attempts(gateway: &str, name_server: &str, neighbours: &[String]) -> Attempts {
    let mut hosts = vec![HOST.to_string(), HOST_TOO.to_string(), gateway.to_owned()];
    hosts.extend(METADATA.map(|address| address.to_string()));
    hosts.extend(neighbours.iter().cloned());
    let mut at_once = Vec::new();
    for host in &hosts {
        at_once.extend([tcp(host, PORT), udp(host, PORT)]);
        at_once.push(format!("ping -c 1 -W 1 {host}"));
    }
    // The name server has one port, of UDP.
    at_once.extend([tcp(name_server, PORT), tcp(name_server, 53)]);
    // Other ways to say this host.
    for text in ["0.0.0.0", "2130706433", "[fd77::2]", "[::ffff:203.0.113.2]", "[fe80::1%eth0]"] {
        at_once.push(tcp(text, PORT));
    }
    for all in ["255.255.255.255", "203.0.113.255", "224.0.0.1"] {
        at_once.push(format!("ping -c 1 -W 1 {all}"));
    }
    // The management of the VM is no network.
    at_once.push("cat /dev/vport*".to_owned());
    at_once.push("ls /dev/vsock /dev/vhost-vsock".to_owned());
    let mut in_turn = Vec::new();
    // The guest's kernel is the guest's: it may be told to send what others would keep.
    in_turn.push(format!(
        "echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet; ip address del 127.0.0.1/8 dev lo; \
         ip route add 127.0.0.0/8 via {gateway}; {}; {}",
        udp("127.0.0.1", PORT),
        tcp("127.0.0.1", PORT)
    ));
    in_turn.push(format!(
        "ip -6 address add fd77::15/64 dev eth0; ip -6 route add default dev eth0; sleep 2; {}; {}",
        udp("fd77::2", PORT),
        tcp("[fd77::2]", PORT)
    ));
    // Whoever asks as the host itself may be taken for it.
    in_turn.push(format!(
        "ip address add {HOST_TOO}/32 dev eth0; \
         traceroute -n -q 1 -w 1 -f 64 -m 64 -s {HOST_TOO} -p {} {HOST}; \
         ip address del {HOST_TOO}/32 dev eth0; false",
        PORT - 1
    ));
    in_turn.push(format!("ip route add {HOST}/32 dev eth0; {}", tcp(HOST, PORT)));
    Attempts { at_once, in_turn }
}

/// What the guest reaches by default, and 30 attempts at what it must not.
fn try_all(scene: &Scene, vm: &Vm, neighbours: &[String]) {
    let gateway = run(vm, "ip route | sed -n 's/^default via \\([^ ]*\\).*/\\1/p'");
    let name_server = run(vm, "sed -n 's/^nameserver //p' /etc/resolv.conf");
    let Attempts { at_once, in_turn } = attempts(&gateway, &name_server, neighbours);
    assert!(at_once.len() >= 30, "{}", at_once.len());
    for some in at_once.chunks(AT_ONCE) {
        thread::scope(|scope| {
            for line in some {
                scope.spawn(|| assert_failed(vm, line));
            }
        });
        scene.assert_untouched(&some.join("\nrefused: "));
    }
    for line in in_turn {
        scene.assert_refused(vm, &line);
    }
    for host in [SOMEBODY, NEIGHBOUR] {
        run(vm, &connect(host, PORT));
        scene.internet.expect_connection();
        run(vm, &format!("({}) || true", udp(host, PORT)));
        scene.internet.expect_datagram(DATAGRAM);
    }
    run(vm, &connect("allowed.example", PORT));
    scene.internet.expect_connection();
}

fn try_what_is_allowed(scene: &Scene, vm: &Vm) {
    for attempt in [
        tcp(SOMEBODY, PORT),
        udp(SOMEBODY, PORT),
        tcp(NEIGHBOUR, PORT + 1),
        tcp("other.example", PORT),
        "nslookup carried.out.other.example".to_owned(),
        // Whoever owns a name may say that it is the host's.
        format!("nslookup host.below.example > /dev/null; {}", tcp("host.below.example", PORT)),
        tcp("metadata.below.example", PORT),
        tcp(METADATA[0], PORT),
    ] {
        scene.assert_refused(vm, &attempt);
    }
    run(vm, &connect(NEIGHBOUR, PORT));
    scene.internet.expect_connection();
    run(vm, &connect("allowed.example", PORT));
    scene.internet.expect_connection();
    // The address is open now, on that port alone.
    scene.assert_refused(vm, &tcp(SOMEBODY, PORT + 1));
    let asked = scene.names.asked();
    let allowed = |name: &String| name == "allowed.example" || name.ends_with(".below.example");
    assert!(asked.iter().all(allowed) && !asked.is_empty(), "{asked:?}");
}

const ALLOWED: &str = "allow allowed.example:8080 *.below.example 10.211.0.0/16:8080";

#[test]
fn a_guest_of_a_user_network_that_tries_to_get_out() {
    let Some(scene) = Scene::new() else { return };
    let vm = scene.boot(NetworkMode::User, "all");
    try_all(&scene, &vm, &["10.0.2.1".to_owned(), "10.0.2.77".to_owned()]);
}

#[test]
fn a_guest_of_a_user_network_reaches_what_is_allowed() {
    let Some(scene) = Scene::new() else { return };
    let vm = scene.boot(NetworkMode::User, ALLOWED);
    try_what_is_allowed(&scene, &vm);
    drop(vm);
    let vm = scene.boot(NetworkMode::User, "nothing");
    for attempt in [tcp(SOMEBODY, PORT), udp(NEIGHBOUR, PORT), tcp("allowed.example", PORT)] {
        scene.assert_refused(&vm, &attempt);
    }
}

/// Two guests, the host and the Internet: whoever may reach whom does.
#[test]
fn a_guest_with_a_tap_that_tries_to_get_out() {
    let Some(scene) = Scene::new() else { return };
    let (vm, neighbour) =
        (scene.boot(NetworkMode::Tap, "all"), scene.boot(NetworkMode::Tap, "all"));
    let addresses = [&vm, &neighbour].map(|vm| vm.get_ip().unwrap());
    assert_ne!(addresses[0], addresses[1]);
    assert_eq!(scene.site.vms().open(vm.id()).unwrap().get_ip().unwrap(), addresses[0]);
    let _server = neighbour.popen(format!("nc -l -p {PORT} -e echo secret").as_str()).unwrap();
    try_all(&scene, &vm, &[addresses[1].to_string(), "10.87.7.7".to_owned()]);

    // This host alone reaches the guests.
    let mut greeting = String::new();
    let connected =
        wait_for(|| scene.world.host.within(|| TcpStream::connect((addresses[1], PORT)).ok()));
    { connected }.read_to_string(&mut greeting).unwrap();
    assert_eq!(greeting, "secret\n");
    let route = ["route", "add", "10.87.0.0/16", "via", "203.0.113.2"];
    scene.world.internet.ip(&route);
    let from_outside = scene.world.internet.within(|| {
        TcpStream::connect_timeout(&(addresses[0], 22).into(), Duration::from_millis(500))
    });
    assert_eq!(from_outside.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
}

#[test]
fn a_guest_with_a_tap_reaches_what_is_allowed() {
    let Some(scene) = Scene::new() else { return };
    let vm = scene.boot(NetworkMode::Tap, ALLOWED);
    try_what_is_allowed(&scene, &vm);
    drop(vm);
    let vm = scene.boot(NetworkMode::Tap, "nothing");
    for attempt in [tcp(SOMEBODY, PORT), udp(NEIGHBOUR, PORT), tcp("allowed.example", PORT)] {
        scene.assert_refused(&vm, &attempt);
    }
    drop(vm);
    assert_nothing_left(&scene.world.host);
}

/// Waits until no guest's device is left: the kernel takes a moment to remove a network namespace.
pub(crate) fn assert_no_devices(host: &Namespace) {
    wait_for(|| {
        let devices = host.devices();
        devices.iter().all(|device| !device.starts_with("smolvm")).then_some(())
    });
}

/// Waits until nothing is left of guests with taps.
pub(crate) fn assert_nothing_left(host: &Namespace) {
    assert_no_devices(host);
    let tables = wait_for(|| {
        let nft = || std::process::Command::new("nft").args(["list", "tables"]).output().ok();
        host.within(nft)
    });
    assert_eq!(String::from_utf8_lossy(&tables.stdout), "");
}

#[test]
fn a_host_that_passes_nothing_on_is_not_made_to() {
    let Some(scene) = Scene::new() else { return };
    let host = &scene.world.host;
    host.within(|| fs_err::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap());
    let config = scene.image.config(&scene.site).network(NetworkMode::Tap).egress(Egress::All);
    let error = host.within(|| Vm::boot(config)).unwrap_err();
    assert_eq!(error.kind(), VmErrorKind::Network);
    assert!(matches!(error, VmError::Network(_)), "{error:?}");
    assert!(error.to_string().contains("sysctl -w net.ipv4.ip_forward=1"), "{error}");
    assert_eq!(scene.site.left(), Vec::<String>::new());
}
