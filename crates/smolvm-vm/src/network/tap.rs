//! A tap device of the VM's own: what it needs on this host, and the program that makes it.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::thread::CapabilitySet;
use smolvm_supervisor::pool::{self, Addresses};

use super::error::NetworkError;
use super::{Device, Egress, GuestAddress, GuestNetwork, HelperProgram, NetworkPlan, Uplink};
use super::{GUEST_MAC, SOCKET, check_length, tap_owner};
use crate::backend::in_path;

/// The name of the tap device, in the VM's own network namespace.
const TAP: &str = "tap0";
/// The name of the file in a VM's runtime directory that tells the guest's addresses.
const TOLD: &str = "address";
/// The directory with who has which address, for all VMs in a network namespace of this host.
const DIRECTORY: &str = "/run/smolvm/tap";
/// The environment variable that names the network of the guests' addresses.
const POOL: &str = "SMOLVM_TAP_POOL";
/// The network of the guests' addresses where nothing else is said.
const DEFAULT_POOL: &str = "10.87.0.0/16";
/// Where Debian keeps programs that the search path of ordinary users does not lead to.
const SYSTEM_PROGRAMS: [&str; 2] = ["/usr/sbin", "/sbin"];

/// Where a tap network is made, and of what.
#[derive(Debug)]
pub(super) struct Tap {
    pub(super) directory: PathBuf,
    pub(super) pool: String,
    nft: Result<PathBuf, NetworkError>,
    ip: Result<PathBuf, NetworkError>,
}

impl Tap {
    /// The one of this host.
    pub(super) fn find() -> Self {
        let pool = std::env::var(POOL).ok().filter(|pool| !pool.trim().is_empty());
        Self {
            directory: directory(),
            pool: pool.map_or_else(|| DEFAULT_POOL.to_owned(), |pool| pool.trim().to_owned()),
            nft: program("nft", "nftables"),
            ip: program("ip", "iproute2"),
        }
    }

    /// Plans the network of a VM whose sockets are in the directory `runtime`.
    pub(super) fn plan(
        self,
        runtime: &Path,
        name_server: Option<Ipv4Addr>,
        egress: &Egress,
    ) -> Result<NetworkPlan, NetworkError> {
        check_privileges()?;
        let (nft, ip) = (self.nft?, self.ip?);
        check_forwarding()?;
        if Addresses::parse(&self.pool).is_none() {
            return Err(NetworkError::Pool { pool: self.pool });
        }
        let (socket, told) = (runtime.join(SOCKET), runtime.join(TOLD));
        check_length(&socket)?;
        let mut argv: Vec<OsString> = vec!["/proc/self/exe".into(), "tap".into()];
        argv.extend([&socket, &told, &self.directory, &nft, &ip].map(OsString::from));
        argv.push(self.pool.into());
        argv.push(name_server.map_or("-".into(), |server| server.to_string().into()));
        argv.push(egress.to_string().into());
        argv.push(tap_owner(runtime));
        let device = Device {
            mac: GUEST_MAC,
            uplink: Uplink::Tap { name: TAP },
            guest: GuestAddress::Told(told),
        };
        let notice = name_server.is_none().then(|| super::NO_NAME_SERVER.to_owned());
        let helpers = vec![HelperProgram { argv, wait_for_socket: socket }];
        Ok(NetworkPlan { device: Some(device), helpers, notice })
    }
}

/// Why there can be no tap network here, if that is so.
pub(crate) fn tap_obstacle() -> Option<NetworkError> {
    let Tap { nft, ip, .. } = Tap::find();
    check_privileges().and(nft).and(ip).and_then(|_| check_forwarding()).err()
}

/// Removes what a process that was killed has left of the last tap network.
pub(crate) fn sweep() {
    if let Ok(nft) = program("nft", "nftables")
        && let Err(error) = pool::tidy(&directory(), &nft, Duration::ZERO)
    {
        log::debug!("cannot remove what is left of tap networks: {error}");
    }
}

/// The address of the guest whose sockets are in this directory.
pub(super) fn address(runtime: &Path) -> Result<IpAddr, NetworkError> {
    read(&runtime.join(TOLD)).map(|guest| guest.address)
}

/// Reads what the program that made a tap has told of its guest.
pub(super) fn read(told: &Path) -> Result<GuestNetwork, NetworkError> {
    let text = fs_err::read_to_string(told)
        .map_err(|source| NetworkError::Told { path: told.to_owned(), source })?;
    parse(&text).ok_or_else(|| NetworkError::Told {
        path: told.to_owned(),
        source: std::io::ErrorKind::InvalidData.into(),
    })
}

/// `10.87.0.1/31 10.87.0.0 10.87.0.0`: the guest's address, its gateway, its name server or `-`.
fn parse(text: &str) -> Option<GuestNetwork> {
    let mut words = text.split_ascii_whitespace();
    let (address, prefix) = words.next()?.split_once('/')?;
    let gateway = words.next()?.parse().ok()?;
    let dns = match words.next()? {
        "-" => Vec::new(),
        server => vec![server.parse::<IpAddr>().ok()?],
    };
    let (address, prefix) = (address.parse().ok()?, prefix.parse().ok()?);
    Some(GuestNetwork { address, prefix, gateway, dns, mtu: None })
}

/// Where it is kept who has which address in the network namespace of this thread.
fn directory() -> PathBuf {
    // `net:[4026531840]`, which is unlike that of any other namespace.
    let namespace = fs_err::read_link("/proc/thread-self/ns/net").unwrap_or_default();
    let number = namespace.to_string_lossy();
    Path::new(DIRECTORY).join(number.trim_matches(|c: char| !c.is_ascii_digit()))
}

fn check_privileges() -> Result<(), NetworkError> {
    let needed = CapabilitySet::NET_ADMIN | CapabilitySet::SYS_ADMIN;
    let has_all = rustix::thread::capabilities(None)
        .is_ok_and(|capabilities| capabilities.effective.contains(needed));
    if has_all { Ok(()) } else { Err(NetworkError::Privileges) }
}

/// A host that passes no packets on is not made to do so: that is its administrator's to decide.
fn check_forwarding() -> Result<(), NetworkError> {
    let setting = fs_err::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap_or_default();
    if setting.trim() == "1" { Ok(()) } else { Err(NetworkError::Forwarding) }
}

fn program(name: &'static str, package: &'static str) -> Result<PathBuf, NetworkError> {
    let places = SYSTEM_PROGRAMS.map(|directory| Path::new(directory).join(name));
    let found = in_path(Path::new(name)).or_else(|| places.iter().find_map(|path| in_path(path)));
    found.ok_or(NetworkError::Missing { program: name, package })
}
