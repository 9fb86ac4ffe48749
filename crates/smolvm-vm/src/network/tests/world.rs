//! Network namespaces that play a host and everything that it can reach.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsFd as _;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use smolvm_testkit::skip;

/// The host's addresses.
pub(super) const HOST: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
pub(super) const HOST_TOO: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 22);
/// Somebody on the Internet.
pub(super) const SOMEBODY: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 9);
/// A machine in a private network that the host is in.
pub(super) const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(10, 211, 7, 9);
/// Metadata servers of several clouds.
pub(super) const METADATA: [Ipv4Addr; 4] = [
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(192, 0, 0, 192),
    Ipv4Addr::new(168, 63, 129, 16),
];
/// The port that everybody listens on.
pub(super) const PORT: u16 = 8080;

/// A host, and beyond it the Internet with its metadata servers.
pub(super) struct World {
    pub(super) host: Namespace,
    pub(super) internet: Namespace,
}

/// A network namespace, kept by a process until dropped.
pub(super) struct Namespace {
    keeper: Child,
}

/// What listens on [`PORT`] of all IPv4 and IPv6 addresses of a namespace, and is not asked to
/// wait.
pub(super) struct Servers {
    pub(super) tcp: TcpListener,
    pub(super) udp: UdpSocket,
}

impl World {
    /// `None`, with the reason printed, where namespaces cannot be made.
    pub(super) fn new() -> Option<Self> {
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
    pub(super) fn new() -> Option<Self> {
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

    /// Runs `action` in this namespace; sockets and processes that it makes stay in there.
    pub(super) fn within<T: Send>(&self, action: impl FnOnce() -> T + Send) -> T {
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

    pub(super) fn servers(&self) -> Servers {
        self.within(|| {
            let any: SocketAddr = format!("[::]:{PORT}").parse().unwrap();
            let (tcp, udp) = (TcpListener::bind(any).unwrap(), UdpSocket::bind(any).unwrap());
            tcp.set_nonblocking(true).unwrap();
            udp.set_nonblocking(true).unwrap();
            Servers { tcp, udp }
        })
    }

    fn ip(&self, arguments: &[&str]) {
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

impl Servers {
    /// Nobody has called.
    pub(super) fn assert_untouched(&self) {
        assert_eq!(self.tcp.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(self.udp.recv(&mut [0; 100]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    /// Waits for what somebody sends.
    pub(super) fn expect_datagram(&self, content: &[u8]) {
        let mut buffer = [0; 100];
        let received = wait_for(|| self.udp.recv(&mut buffer).ok());
        assert_eq!(&buffer[..received], content);
    }

    /// Waits for somebody to connect.
    pub(super) fn expect_connection(&self) {
        wait_for(|| self.tcp.accept().ok());
    }
}

/// Asks until there is an answer.
///
/// # Panics
///
/// When there is none for much longer than it can take.
pub(super) fn wait_for<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "nothing comes");
        thread::sleep(Duration::from_millis(2));
    }
}
