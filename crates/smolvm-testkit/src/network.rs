//! Network namespaces that play a host and everything that it can reach.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsFd as _;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use fs_err::File;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::requirement::skip;

/// The host's address.
pub const HOST: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
/// Another address of the host's.
pub const HOST_TOO: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 22);
/// Somebody on the Internet.
pub const SOMEBODY: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 9);
/// A machine in a private network that the host is in.
pub const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(10, 211, 7, 9);
/// Metadata servers of several clouds.
pub const METADATA: [Ipv4Addr; 4] = [
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(192, 0, 0, 192),
    Ipv4Addr::new(168, 63, 129, 16),
];
/// The port that everybody listens on.
pub const PORT: u16 = 8080;

/// A host, and beyond it the Internet with its metadata servers.
#[derive(Debug)]
pub struct World {
    /// The host.
    pub host: Namespace,
    /// Everything else.
    pub internet: Namespace,
}

/// A network namespace, kept by a process until dropped.
#[derive(Debug)]
pub struct Namespace {
    keeper: Child,
}

/// What listens on [`PORT`] of all IPv4 and IPv6 addresses of a namespace, and is not asked to
/// wait.
#[derive(Debug)]
pub struct Servers {
    /// Accepts connections.
    pub tcp: TcpListener,
    /// Receives datagrams.
    pub udp: UdpSocket,
}

/// A name server, until dropped.
#[derive(Debug)]
pub struct NameServer {
    asked: Arc<Mutex<Vec<String>>>,
}

impl World {
    /// `None`, with the reason printed, where namespaces cannot be made.
    pub fn new() -> Option<Self> {
        let world = Self { host: Namespace::new()?, internet: Namespace::new()? };
        let (host, internet) = (&world.host, &world.internet);
        let peer = internet.keeper.id().to_string();
        host.ip(&["link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", &peer]);
        for address in [format!("{HOST}/24"), format!("{HOST_TOO}/32"), "fd77::2/64".to_owned()] {
            host.ip(&["address", "add", &address, "dev", "eth0"]);
        }
        let mut addresses = vec!["203.0.113.1/24".to_owned()];
        addresses.extend([SOMEBODY, NEIGHBOUR].iter().chain(&METADATA).map(|a| format!("{a}/32")));
        for address in addresses {
            internet.ip(&["address", "add", &address, "dev", "eth0"]);
        }
        for namespace in [internet, host] {
            namespace.ip(&["link", "set", "eth0", "up"]);
        }
        host.ip(&["route", "add", "default", "via", "203.0.113.1"]);
        Some(world)
    }
}

impl Namespace {
    /// An empty one, with its loopback up.
    pub fn new() -> Option<Self> {
        let keeper = Command::new("unshare")
            .args(["--net", "sh", "-c", "echo; exec sleep 1000"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut keeper = keeper.ok()?;
        let mut ready = [0];
        let ready = io::Read::read(keeper.stdout.as_mut().unwrap(), &mut ready);
        let namespace = Self { keeper };
        if ready.unwrap() == 0 {
            skip("network namespaces cannot be made (root can)");
            return None;
        }
        namespace.ip(&["link", "set", "lo", "up"]);
        Some(namespace)
    }

    /// Its number, which no other has at the same time.
    pub fn number(&self) -> String {
        let link = fs_err::read_link(format!("/proc/{}/ns/net", self.keeper.id())).unwrap();
        link.to_string_lossy().trim_matches(|c: char| !c.is_ascii_digit()).to_owned()
    }

    /// The names of its devices.
    pub fn devices(&self) -> Vec<String> {
        let table = self.within(|| fs_err::read_to_string("/proc/thread-self/net/dev").unwrap());
        let names = table.lines().filter_map(|line| line.split_once(':'));
        names.map(|(name, _)| name.trim().to_owned()).collect()
    }

    /// Has it pass packets on, as a router does.
    pub fn forward(&self) {
        self.within(|| fs_err::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap());
    }

    /// Runs `action` in this namespace; sockets and processes that it makes stay in there.
    pub fn within<T: Send>(&self, action: impl FnOnce() -> T + Send) -> T {
        let path = format!("/proc/{}/ns/net", self.keeper.id());
        let namespace = File::open(path).unwrap();
        thread::scope(|scope| {
            let entered = scope.spawn(|| {
                let kind = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(namespace.as_fd(), kind).unwrap();
                action()
            });
            entered.join().unwrap()
        })
    }

    /// Listens on [`PORT`] of all addresses.
    pub fn servers(&self) -> Servers {
        self.within(|| {
            let any: SocketAddr = format!("[::]:{PORT}").parse().unwrap();
            let (tcp, udp) = (TcpListener::bind(any).unwrap(), UdpSocket::bind(any).unwrap());
            tcp.set_nonblocking(true).unwrap();
            udp.set_nonblocking(true).unwrap();
            Servers { tcp, udp }
        })
    }

    /// Answers questions for names on port 53 of `address` with the addresses that `names` have, and
    /// that there is no such name otherwise.
    pub fn name_server(
        &self,
        address: Ipv4Addr,
        names: &'static [(&'static str, Ipv4Addr)],
    ) -> NameServer {
        let socket = self.within(|| UdpSocket::bind((address, 53)).unwrap());
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let heard = Arc::clone(&asked);
        // It ends with the test.
        thread::spawn(move || {
            let mut buffer = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let (name, response) = answer(&buffer[..length], names);
                heard.lock().unwrap().push(name);
                let _ = socket.send_to(&response, from);
            }
        });
        NameServer { asked }
    }

    /// Gives the device `eth0` one more address.
    pub fn add_address(&self, address: Ipv4Addr) {
        self.ip(&["address", "add", &format!("{address}/32"), "dev", "eth0"]);
    }

    /// Runs `ip` in this namespace.
    pub fn ip(&self, arguments: &[&str]) {
        let output = self.within(|| Command::new("ip").args(arguments).output().unwrap());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "ip {arguments:?}: {said}");
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

impl NameServer {
    /// Which names were asked for.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// The name in a question (RFC 1035), and the answer to it.
fn answer(question: &[u8], names: &[(&str, Ipv4Addr)]) -> (String, Vec<u8>) {
    let (mut name, mut at) = (Vec::new(), 12);
    while question[at] != 0 {
        let length = usize::from(question[at]);
        name.push(String::from_utf8_lossy(&question[at + 1..=at + length]).to_lowercase());
        at += 1 + length;
    }
    let name = name.join(".");
    let mut response = question[..at + 5].to_vec();
    let is_address = question[at + 1..at + 5] == [0, 1, 0, 1];
    let known = names.iter().find(|(known, _)| *known == name);
    response[2..4].copy_from_slice(&[0x81, if known.is_some() { 0x80 } else { 0x83 }]);
    response[6..12].fill(0);
    if let (Some((_, address)), true) = (known, is_address) {
        response[7] = 1;
        response.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        response.extend(address.octets());
    }
    (name, response)
}

/// The first name server that this host's `/etc/resolv.conf` names by an IPv4 address.
pub fn name_server_of_this_host() -> Option<Ipv4Addr> {
    let configuration = fs_err::read_to_string("/etc/resolv.conf").ok()?;
    let mut servers = configuration.lines().filter_map(|line| line.strip_prefix("nameserver"));
    servers.find_map(|server| server.trim().parse().ok())
}

impl Servers {
    /// Nobody has called.
    pub fn assert_untouched(&self) {
        assert_eq!(self.tcp.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(self.udp.recv(&mut [0; 100]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    /// Waits for what somebody sends.
    pub fn expect_datagram(&self, content: &[u8]) {
        let mut buffer = [0; 100];
        let received = wait_for(|| self.udp.recv(&mut buffer).ok());
        assert_eq!(&buffer[..received], content);
    }

    /// Waits for somebody to connect.
    pub fn expect_connection(&self) {
        wait_for(|| self.tcp.accept().ok());
    }
}

/// Asks until there is an answer.
///
/// # Panics
///
/// When there is none for much longer than it can take.
pub fn wait_for<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "nothing comes");
        thread::sleep(Duration::from_millis(2));
    }
}
