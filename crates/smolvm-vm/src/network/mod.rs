//! What a guest's network device is connected to, planned before the VMM is started.
//!
//! For the network `user` no privileges are needed and the host's firewall is never touched: passt
//! turns the guest's packets into sockets of the user's, and a filter of ours before it keeps the
//! guest from this host, whose loopback and metadata addresses those sockets would reach.
//!
//! A VMM that knows tap devices alone has one in a network namespace of the VM's own, from where a
//! program carries its frames to that filter.
//!
//! For `tap` the guest has a device in a network namespace of the VM's own, with rules of its own,
//! from where the host's kernel passes its packets on.

mod bridge;
mod error;
mod name_server;
mod passt;
mod tap;

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use crate::privileges;
use crate::supervisor::Setting;

pub use error::NetworkError;
use passt::Passt;
pub use smolvm_supervisor::egress::{Destination, DestinationError, Egress};
use tap::Tap;
pub(crate) use tap::{sweep, tap_obstacle};

/// What a guest is to reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// What the user can reach over IPv4, but not this host, its link or metadata servers.
    User,
    /// The same, through a tap device and the host's kernel.
    Tap,
    /// Nothing: it has no network device.
    None,
}

/// What a VMM can connect a guest's device to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attachment {
    /// Whatever there is.
    Any,
    /// A tap device alone.
    Tap,
}

/// What a VMM, the supervisor and the agent are told of a guest's network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NetworkPlan {
    /// The guest's device, if it has one.
    pub(crate) device: Option<Device>,
    /// What runs beside the VMM, in the order in which it is started.
    pub(crate) helpers: Vec<HelperProgram>,
    /// What the user is to know: what is missing and how it is had.
    pub(crate) notice: Option<String>,
}

/// A guest's network device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Device {
    /// The device's own address.
    pub(crate) mac: &'static str,
    /// Where its frames go.
    pub(crate) uplink: Uplink,
    /// What the agent sets up in the guest.
    pub(crate) guest: GuestAddress,
}

/// When it is known how the guest is to set its device up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum GuestAddress {
    /// From the beginning.
    Known(GuestNetwork),
    /// When the program beside the VMM is ready: it says so in this file.
    Told(PathBuf),
}

/// Where a guest's frames go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Uplink {
    /// To the program that listens on this Unix socket, in the framing of QEMU's
    /// `-netdev stream`. It serves one connection.
    Filter {
        /// The socket's path.
        socket: PathBuf,
    },
    /// Nowhere: to the VMM's own network, restricted (QEMU's `-netdev user,restrict=on`).
    Restricted,
    /// To the tap device of this name, in the network namespace of the last program beside the VMM.
    Tap {
        /// The device's name.
        name: &'static str,
    },
}

/// A program that the supervisor starts before the VMM, and ends with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HelperProgram {
    /// The program and its arguments. The program is the supervisor's own, whichever file that is.
    pub(crate) argv: Vec<OsString>,
    /// The VMM may be started as soon as this Unix socket is listened on.
    pub(crate) wait_for_socket: PathBuf,
}

/// How a guest is to set its network device up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GuestNetwork {
    /// Its address.
    pub(crate) address: IpAddr,
    /// How many bits of the address are those of its network.
    pub(crate) prefix: u8,
    /// Through where all else is reached.
    pub(crate) gateway: IpAddr,
    /// Its name servers.
    pub(crate) dns: Vec<IpAddr>,
    /// The longest packet in bytes; `None` for the device's own.
    pub(crate) mtu: Option<u16>,
}

/// The name of the network's socket in a VM's runtime directory.
const SOCKET: &str = "net.sock";

const NO_NAME_SERVER: &str =
    "the VM has no name server: /etc/resolv.conf names none with an IPv4 address";

/// The addresses of every guest of `user`, which share nothing but these, as QEMU's own network has them.
/// Inside this network only the name server answers, so that a host with an interface in a network
/// of the same addresses is neither disturbed nor reached.
const NETWORK: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 0);
const PREFIX: u8 = 24;
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
const NAME_SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);
const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);

const GUEST_MAC: &str = "52:54:00:12:34:56";
const GATEWAY_MAC: &str = "52:55:0a:00:02:02";
/// A long packet costs as much as a short one, but passt loses what it sends too much of at once,
/// and before its release of September 2023 may then wait for ever. Measured under emulation: 12
/// MB/s with this, 3 MB/s with 1500, and downloads that stop at 65520.
const MTU: u16 = 9000;

/// Plans the network of a VM whose sockets are in the directory `runtime`.
///
/// Where passt is missing or does not work, the guest has a device that leads nowhere, and a notice
/// says what to do about it.
pub(crate) fn plan(
    mode: Mode,
    egress: &Egress,
    runtime: &Path,
    attachment: Attachment,
) -> Result<NetworkPlan, NetworkError> {
    let name_server = name_server::of_this_host();
    match (mode, attachment) {
        (Mode::None, _) => Ok(NetworkPlan { device: None, helpers: Vec::new(), notice: None }),
        (Mode::User, Attachment::Any) => user(runtime, &Passt::find(), name_server, egress),
        (Mode::User, Attachment::Tap) => {
            bridge::on_tap(user(runtime, &Passt::find(), name_server, egress)?, runtime)
        }
        (Mode::Tap, _) => Tap::find().plan(runtime, name_server, egress),
    }
}

/// Why a VMM that knows tap devices alone cannot have a network of this mode here, if that is so.
pub(crate) fn obstacle_on_tap(mode: Mode) -> Option<NetworkError> {
    match mode {
        Mode::User => bridge::obstacle(),
        Mode::Tap => tap_obstacle(),
        Mode::None => None,
    }
}

/// The address that a guest has in this mode, where that is known before it runs.
pub(crate) fn address(mode: Mode) -> Option<IpAddr> {
    match mode {
        Mode::User => Some(GUEST.into()),
        Mode::Tap | Mode::None => None,
    }
}

/// The address of a guest that runs, whose sockets are in the directory `runtime`.
pub(crate) fn address_in(mode: Mode, runtime: &Path) -> Result<Option<IpAddr>, NetworkError> {
    match mode {
        Mode::Tap => tap::address(runtime).map(Some),
        mode => Ok(address(mode)),
    }
}

/// Who may open a tap device besides root, as the last argument of the program that makes it.
fn tap_owner(runtime: &Path) -> OsString {
    // Where root cannot be another user, the VMM is not either.
    let user = privileges::number(runtime).ok().flatten();
    user.map_or_else(|| "-".into(), |user| user.to_string().into())
}

impl Device {
    /// What puts a VMM into the network namespace of the device, where it has one.
    pub(crate) fn namespace(&self) -> Option<Setting> {
        match self.uplink {
            Uplink::Tap { name } => Some(Setting::Network { device: name.to_owned() }),
            Uplink::Filter { .. } | Uplink::Restricted => None,
        }
    }
}

impl GuestAddress {
    /// What the agent is told, once the programs beside the VMM are ready.
    pub(crate) fn get(&self) -> Result<GuestNetwork, NetworkError> {
        match self {
            Self::Known(guest) => Ok(guest.clone()),
            Self::Told(path) => tap::read(path),
        }
    }
}

fn user(
    runtime: &Path,
    passt: &Passt,
    name_server: Option<Ipv4Addr>,
    egress: &Egress,
) -> Result<NetworkPlan, NetworkError> {
    let passt = passt.arguments(name_server.is_some());
    if let Err(obstacle) = passt::probe(&passt)? {
        return Ok(restricted(&obstacle));
    }
    let socket = runtime.join(SOCKET);
    check_length(&socket)?;
    let dns = if name_server.is_some() { vec![NAME_SERVER.into()] } else { Vec::new() };
    let notice = name_server.is_none().then(|| NO_NAME_SERVER.to_owned());
    let filter = HelperProgram {
        argv: filter_arguments(&socket, name_server.is_some(), egress, passt),
        wait_for_socket: socket.clone(),
    };
    let guest = GuestAddress::Known(GuestNetwork { dns, mtu: Some(MTU), ..guest() });
    let device = Device { mac: GUEST_MAC, uplink: Uplink::Filter { socket }, guest };
    Ok(NetworkPlan { device: Some(device), helpers: vec![filter], notice })
}

fn restricted(obstacle: &str) -> NetworkPlan {
    let notice = format!("the VM reaches no other host: {obstacle}");
    let device =
        Device { mac: GUEST_MAC, uplink: Uplink::Restricted, guest: GuestAddress::Known(guest()) };
    NetworkPlan { device: Some(device), helpers: Vec::new(), notice: Some(notice) }
}

fn guest() -> GuestNetwork {
    GuestNetwork {
        address: GUEST.into(),
        prefix: PREFIX,
        gateway: GATEWAY.into(),
        dns: Vec::new(),
        mtu: None,
    }
}

/// The filter is the supervisor's program in another role; the supervisor starts what it is itself.
fn filter_arguments(
    socket: &Path,
    has_name_server: bool,
    egress: &Egress,
    passt: Vec<OsString>,
) -> Vec<OsString> {
    let name_server = if has_name_server { NAME_SERVER.to_string() } else { "-".to_owned() };
    let mut arguments: Vec<OsString> = vec!["/proc/self/exe".into(), "network".into()];
    arguments.push(socket.into());
    arguments.push(format!("{NETWORK}/{PREFIX}").into());
    arguments.push(GATEWAY.to_string().into());
    arguments.push(name_server.into());
    arguments.push(egress.to_string().into());
    // Where root cannot be another user, QEMU is not either, and the user has been told.
    let user = socket.parent().and_then(|runtime| privileges::number(runtime).ok().flatten());
    arguments.push(user.map_or("-".to_owned(), |user| user.to_string()).into());
    arguments.extend(passt);
    arguments
}

/// Refuses a path that cannot be the address of a socket.
fn check_length(socket: &Path) -> Result<(), NetworkError> {
    /// `sun_path` of `sockaddr_un`, less the NUL.
    const MAX: usize = 107;
    let length = socket.as_os_str().len();
    if length > MAX {
        return Err(NetworkError::LongPath { path: socket.to_owned(), length, max: MAX });
    }
    Ok(())
}
