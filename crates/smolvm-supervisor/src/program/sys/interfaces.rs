//! Network devices of the calling thread's namespace, made and set up by `ioctl` (`netdevice(7)`,
//! `linux/if_tun.h`, `linux/sockios.h`), for which no other program is needed.

use std::ffi::{c_int, c_short, c_ulong};
use std::fs::{File, OpenOptions};
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::{AsRawFd as _, RawFd};

use super::{IFF_TAP_PLAIN, NAME_SIZE, TapName, check, ioctl};

/// `struct ifreq` of the kernel, as far as numbers are told in it.
#[repr(C)]
struct Request {
    name: [u8; NAME_SIZE],
    value: Value,
}

#[repr(C)]
union Value {
    flags: c_short,
    number: c_int,
    all: [u64; 3],
}

const TUNSETIFF: c_ulong = 0x4004_54ca;
const TUNSETPERSIST: c_ulong = 0x4004_54cb;
const TUNSETOWNER: c_ulong = 0x4004_54cc;
/// `IFF_TAP | IFF_NO_PI`.
const IFF_TAP_BARE: c_short = 0x0002 | 0x1000;

const SIOCGIFFLAGS: c_ulong = 0x8913;
const SIOCSIFFLAGS: c_ulong = 0x8914;
const SIOCSIFMTU: c_ulong = 0x8922;
const SIOCGIFINDEX: c_ulong = 0x8933;
const SIOCBRADDBR: c_ulong = 0x89a0;
const SIOCBRADDIF: c_ulong = 0x89a2;
const IFF_UP: c_short = 1;

/// What devices of a namespace are set up through.
pub(crate) struct Interfaces(UdpSocket);

impl Interfaces {
    /// Those of the calling thread's namespace.
    pub(crate) fn here() -> io::Result<Self> {
        UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).map(Self)
    }

    /// Makes a bridge, on which no spanning tree is sought: it passes frames on at once.
    pub(crate) fn add_bridge(&self, name: TapName) -> io::Result<()> {
        // SAFETY: the name ends with a zero byte and lives until the call returns.
        check(unsafe { ioctl(self.0.as_raw_fd(), SIOCBRADDBR, name.0.as_ptr()) }).map(drop)
    }

    /// Makes a device a port of a bridge.
    pub(crate) fn add_port(&self, bridge: TapName, device: TapName) -> io::Result<()> {
        let found = self.ask(SIOCGIFINDEX, device, Value { all: [0; 3] })?;
        // SAFETY: the kernel has written a number.
        let number = unsafe { found.number };
        self.ask(SIOCBRADDIF, bridge, number_of(number)).map(drop)
    }

    /// Sets the longest packet of a device, in bytes.
    pub(crate) fn set_mtu(&self, device: TapName, mtu: u16) -> io::Result<()> {
        self.ask(SIOCSIFMTU, device, number_of(mtu.into())).map(drop)
    }

    /// Switches a device on.
    pub(crate) fn bring_up(&self, device: TapName) -> io::Result<()> {
        let found = self.ask(SIOCGIFFLAGS, device, Value { all: [0; 3] })?;
        // SAFETY: the kernel has written flags.
        let flags = unsafe { found.flags };
        let mut value = Value { all: [0; 3] };
        value.flags = flags | IFF_UP;
        self.ask(SIOCSIFFLAGS, device, value).map(drop)
    }

    fn ask(&self, what: c_ulong, device: TapName, value: Value) -> io::Result<Value> {
        let mut request = Request { name: device.0, value };
        // SAFETY: the request is as large as the kernel's and lives until the call returns.
        check(unsafe { ioctl(self.0.as_raw_fd(), what, &raw mut request) })?;
        Ok(request.value)
    }
}

fn number_of(number: c_int) -> Value {
    let mut value = Value { all: [0; 3] };
    value.number = number;
    value
}

/// Makes a tap device that stays as long as its namespace, with the header before each frame that
/// VMMs ask for. Besides root, `owner` may open it.
pub(crate) fn make_tap(name: TapName, owner: u32) -> io::Result<()> {
    let tap = open_new_tap(name, IFF_TAP_PLAIN)?;
    // SAFETY: these two take numbers and no memory.
    unsafe {
        check(ioctl(tap.as_raw_fd(), TUNSETOWNER, c_ulong::from(owner)))?;
        check(ioctl(tap.as_raw_fd(), TUNSETPERSIST, c_ulong::from(1_u32))).map(drop)
    }
}

/// Makes a tap device that stays as long as the file is open: each read is a frame, and so is each
/// write. Frames that others have left to the hardware to finish are finished when they are read.
pub(crate) fn make_own_tap(name: TapName) -> io::Result<File> {
    open_new_tap(name, IFF_TAP_BARE)
}

fn open_new_tap(name: TapName, flags: c_short) -> io::Result<File> {
    let tap = OpenOptions::new().read(true).write(true).open("/dev/net/tun")?;
    become_tap(tap.as_raw_fd(), name, flags)?;
    Ok(tap)
}

/// Makes a descriptor of `/dev/net/tun` that of the tap device of this name, which is made where
/// there is none. Allocates nothing.
pub(super) fn become_tap(tun: RawFd, name: TapName, flags: c_short) -> io::Result<()> {
    let mut value = Value { all: [0; 3] };
    value.flags = flags;
    let mut request = Request { name: name.0, value };
    // SAFETY: the request is as large as the kernel's and lives until the call returns.
    check(unsafe { ioctl(tun, TUNSETIFF, &raw mut request) }).map(drop)
}
