//! The program that gives a guest its tap device: in a network namespace of the VM's own, whose
//! only other end is a pair of devices that leads to the host, which passes the guest's packets on
//! as its own (NAT).
//!
//! This process keeps the namespace, and the VMM runs in it. When both have ended, by whatever
//! means, the kernel removes the namespace with its devices and rules, the host's end and its
//! route. What the host has besides is one table of rules for all guests, which goes with the last.

mod commands;
mod host;
mod inside;
mod names;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::Duration;

use crate::egress::Egress;
use crate::pool::{self, Addresses, DEVICES, SLOT_PREFIX, Slot};
use crate::sys;

/// The first argument of a supervisor that is to be this program.
pub(crate) const ROLE: &str = "tap";

/// How long the kernel may take to remove a namespace whose last process has ended.
const PATIENCE: Duration = Duration::from_secs(3);

/// What this program is started with.
struct Arguments {
    /// What is listened on when the guest may come.
    socket: PathBuf,
    /// Where the guest's addresses are told.
    told: PathBuf,
    /// The directory of the pool.
    directory: PathBuf,
    nft: PathBuf,
    ip: PathBuf,
    addresses: Addresses,
    /// The name server of the host.
    name_server: Option<Ipv4Addr>,
    egress: Egress,
    /// Who may use the tap device besides root.
    owner: Option<u32>,
}

/// The guest's part of the network.
struct Guest {
    slot: Slot,
    gateway: Ipv4Addr,
    address: Ipv4Addr,
}

/// Makes the guest's network and keeps it until it is killed. `arguments` are those after
/// [`ROLE`]: the socket to listen on when all is there, the file that tells the guest's addresses,
/// the directory of the pool, the programs `nft` and `ip`, the network of the pool, the host's name
/// server (or `-`), what the guest may reach, and the number of the tap's user (or `-`).
pub(crate) fn run(arguments: impl Iterator<Item = OsString>) -> io::Result<()> {
    sys::set_name(b"smolvm-tap\0\0\0\0\0\0");
    let arguments = Arguments::parse(arguments)?;
    let guest = host::take(&arguments)?;
    // Threads keep the namespace in which they began.
    let asker = arguments.name_server.map(names::Asker::start);
    sys::enter_new_network()?;
    inside::set_up(&arguments, &guest)?;
    host::connect(&arguments, &guest)?;
    let names = asker.map(|asker| names::Names::new(asker, &arguments, &guest)).transpose()?;
    let name_server = names.as_ref().map_or("-".to_owned(), |_| guest.gateway.to_string());
    let told = format!("{}/{SLOT_PREFIX} {} {name_server}\n", guest.address, guest.gateway);
    fs::write(&arguments.told, told)?;
    let _ready = UnixListener::bind(&arguments.socket)?;
    match names {
        Some(names) => names.serve(),
        None => loop {
            std::thread::park();
        },
    }
}

/// Removes what the host has for guests with taps, if the one whose program had these arguments
/// was the last.
pub(crate) fn tidy(arguments: &[OsString]) {
    if arguments.get(1).is_none_or(|role| role != ROLE) {
        return;
    }
    if let Ok(arguments) = Arguments::parse(arguments.iter().skip(2).cloned()) {
        // What is left is removed when the next guest comes.
        let _ = pool::tidy(&arguments.directory, &arguments.nft, PATIENCE);
    }
}

impl Arguments {
    fn parse(mut arguments: impl Iterator<Item = OsString>) -> io::Result<Self> {
        let mut next = || arguments.next().ok_or_else(|| invalid("an argument is missing"));
        let (socket, told, directory) = (next()?.into(), next()?.into(), next()?.into());
        let (nft, ip) = (next()?.into(), next()?.into());
        let addresses = text(&next()?, Addresses::parse)?;
        let name_server = optional(&next()?, |text| text.parse().ok())?;
        let egress = text(&next()?, |text| text.parse().ok())?;
        let owner = optional(&next()?, |text| text.parse().ok())?;
        Ok(Self { socket, told, directory, nft, ip, addresses, name_server, egress, owner })
    }
}

impl Guest {
    fn of(slot: Slot, addresses: Addresses) -> Self {
        let (gateway, address) = (addresses.gateway(slot.number), addresses.guest(slot.number));
        Self { slot, gateway, address }
    }

    /// The host's end of the pair of devices.
    fn host_device(&self) -> String {
        host_device(self.slot.number)
    }

    /// The address of the host's end, and of the other.
    fn link_addresses(&self) -> (String, String) {
        let [high, low] = self.slot.number.to_be_bytes();
        let address = |end: u8| format!("02:53:4d:{end:02x}:{high:02x}:{low:02x}");
        (address(0), address(1))
    }
}

fn host_device(slot: u16) -> String {
    format!("{DEVICES}{slot}")
}

fn text<T>(argument: &OsStr, parse: impl Fn(&str) -> Option<T>) -> io::Result<T> {
    argument.to_str().and_then(parse).ok_or_else(|| {
        let why = format!("{:?} is not understood", argument.to_string_lossy());
        io::Error::new(io::ErrorKind::InvalidInput, why)
    })
}

fn optional<T>(argument: &OsStr, parse: impl Fn(&str) -> Option<T>) -> io::Result<Option<T>> {
    if argument == "-" { Ok(None) } else { text(argument, parse).map(Some) }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}
