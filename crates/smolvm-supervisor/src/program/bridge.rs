//! The program that connects a VMM that knows tap devices alone to the packet
//! [filter](crate::network).
//!
//! In a network namespace of the VM's own it makes two taps and a bridge between them. The first is
//! the VMM's, which leaves it to whoever takes a frame to cut it up and to sum it. On the way to the
//! second, this program's, the kernel does both, so that what is read there are plain frames as
//! QEMU sends them. Nothing in the namespace has an address, and nothing leads out of it but the
//! frames that this program carries to the filter and back.
//!
//! No privileges are needed where user namespaces may be made, and nothing of the host's is
//! changed. When this process and the VMM have ended, by whatever means, the namespace is gone.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread;

use crate::network::frames::{self, PREFIX};
use crate::sys::interfaces::{self, Interfaces};
use crate::sys::{self, POLLIN, PollFd, TapName};

/// The first argument of a supervisor that is to be this program.
pub(crate) const ROLE: &str = "bridge";

/// The VMM's device.
const TAP: &[u8] = b"tap0";
/// The device that leads to the filter.
const FILTER_TAP: &[u8] = b"filter0";
const BRIDGE: &[u8] = b"bridge0";

/// Room for the longest frame that the kernel hands over.
const LONGEST: usize = 68 << 10;
/// Room for several.
const BUFFER: usize = 256 << 10;

/// What this program is started with.
struct Arguments {
    /// What is listened on when all is there.
    socket: PathBuf,
    /// Where the filter listens; without it the guest's device leads nowhere.
    filter: Option<PathBuf>,
    /// The longest packet, in bytes.
    mtu: u16,
    /// Who this program is to be once all is there, and the VMM.
    user: Option<u32>,
}

/// Makes the guest's device and carries its frames, until it is killed. `arguments` are those after
/// [`ROLE`]: the socket to listen on when all is there, that of the filter (or `-`), the longest
/// packet in bytes, and the number of the user to be (or `-`). Without any it only tries whether
/// all that can be made here.
pub(crate) fn run(arguments: impl Iterator<Item = OsString>) -> io::Result<()> {
    sys::set_name(b"smolvm-bridge\0\0\0");
    let Some(arguments) = Arguments::parse(arguments)? else {
        return set_up(1500, None, true).map(drop);
    };
    let filter = arguments.filter.map(UnixStream::connect).transpose()?;
    let tap = set_up(arguments.mtu, arguments.user, filter.is_some())?;
    let _ready = UnixListener::bind(&arguments.socket)?;
    if let Some(user) = arguments.user {
        sys::become_user(user)?;
    }
    if let (Some(filter), Some(tap)) = (filter, tap) {
        carry(&filter, &tap);
    }
    // The VMM may not be in the namespace yet.
    loop {
        thread::park();
    }
}

impl Arguments {
    fn parse(mut arguments: impl Iterator<Item = OsString>) -> io::Result<Option<Self>> {
        let Some(socket) = arguments.next() else { return Ok(None) };
        let mut next = || arguments.next().ok_or_else(|| invalid("an argument is missing"));
        let filter = next()?;
        let filter = (filter != "-").then(|| filter.into());
        let mtu = number(&next()?)?;
        let user = next()?;
        let user = if user == "-" { None } else { Some(number(&user)?) };
        Ok(Some(Self { socket: socket.into(), filter, mtu, user }))
    }
}

fn number<T: std::str::FromStr>(text: &OsStr) -> io::Result<T> {
    let number = text.to_str().and_then(|text| text.parse().ok());
    number.ok_or_else(|| invalid("that is no number"))
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

/// Makes the namespace and what is in it. Returns the device that leads to the filter, if there is
/// to be one.
fn set_up(mtu: u16, user: Option<u32>, has_filter: bool) -> io::Result<Option<File>> {
    sys::enter_own_network()
        .map_err(|error| because("a network namespace cannot be made", &error))?;
    for which in ["all", "default"] {
        let setting = format!("/proc/sys/net/ipv6/conf/{which}/disable_ipv6");
        match fs::write(&setting, "1") {
            // Without IPv6 there is no such file.
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(because(&setting, &error));
            }
            _ => {}
        }
    }
    let [tap, filter_tap, bridge] =
        [TAP, FILTER_TAP, BRIDGE].map(|name| TapName::new(name).ok_or(io::ErrorKind::InvalidInput));
    let (tap, filter_tap, bridge) = (tap?, filter_tap?, bridge?);
    let interfaces = Interfaces::here()?;
    let no_tap = |error: io::Error| because("a tap device cannot be made", &error);
    interfaces::make_tap(tap, user.unwrap_or_else(sys::user)).map_err(no_tap)?;
    interfaces.set_mtu(tap, mtu)?;
    if !has_filter {
        return interfaces.bring_up(tap).map(|()| None);
    }
    let file = interfaces::make_own_tap(filter_tap).map_err(no_tap)?;
    interfaces.set_mtu(filter_tap, mtu)?;
    let no_bridge = |error: io::Error| because("a bridge cannot be made", &error);
    interfaces.add_bridge(bridge).map_err(no_bridge)?;
    for port in [tap, filter_tap] {
        interfaces.add_port(bridge, port).map_err(no_bridge)?;
        interfaces.bring_up(port)?;
    }
    interfaces.bring_up(bridge)?;
    Ok(Some(file))
}

fn because(what: &str, why: &io::Error) -> io::Error {
    io::Error::new(why.kind(), format!("{what}: {why}"))
}

/// Carries frames both ways until the filter is gone.
fn carry(filter: &UnixStream, tap: &File) {
    let close = || {
        // What is closed already needs no closing.
        let _ = filter.shutdown(Shutdown::Both);
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            // However it ends, there is nothing more to carry.
            let _ = frames::pump(
                filter,
                |_| Ok(()),
                |frame| {
                    let mut tap = tap;
                    // What the kernel does not take is lost, as on any link.
                    let _ = tap.write(frame);
                    Ok(false)
                },
            );
            close();
        });
        let _ = carry_out(tap, filter);
        close();
    });
}

/// Carries what comes from the guest, many frames at once where many came at once.
fn carry_out(mut tap: &File, mut filter: &UnixStream) -> io::Result<()> {
    sys::set_nonblocking(tap.as_fd())?;
    let mut buffer = vec![0; BUFFER];
    loop {
        let of = |fd, events| PollFd { fd, events, revents: 0 };
        let mut ready = [of(tap.as_raw_fd(), POLLIN), of(filter.as_raw_fd(), 0)];
        sys::wait(&mut ready, None)?;
        // It is closed; nothing else is asked for.
        if ready[1].revents != 0 {
            return Ok(());
        }
        let mut filled = 0;
        while buffer.len() - filled >= PREFIX + LONGEST {
            let start = filled + PREFIX;
            match tap.read(&mut buffer[start..]) {
                Ok(length) => {
                    let prefix = u32::try_from(length).unwrap_or(0).to_be_bytes();
                    buffer[filled..start].copy_from_slice(&prefix);
                    filled = start + length;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        filter.write_all(&buffer[..filled])?;
    }
}
