//! Sockets that `std` does not make: those of vsock, and connections that nobody waits for.

use std::ffi::{c_int, c_uint, c_void};
use std::fs::File;
use std::io;
use std::mem::size_of_val;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use super::check;

/// `struct sockaddr_vm`.
#[derive(Debug, Default)]
#[repr(C)]
struct VsockAddress {
    family: u16,
    reserved: u16,
    port: c_uint,
    cid: c_uint,
    zero: [u8; 4],
}

/// `struct sockaddr_in`.
#[repr(C)]
struct Ipv4Address {
    family: u16,
    port: [u8; 2],
    address: [u8; 4],
    zero: [u8; 8],
}

/// `struct sockaddr_in6`.
#[repr(C)]
struct Ipv6Address {
    family: u16,
    port: [u8; 2],
    flow: u32,
    address: [u8; 16],
    scope: u32,
}

const AF_INET: c_int = 2;
const AF_INET6: c_int = 10;
const AF_VSOCK: c_int = 40;
const SOCK_STREAM: c_int = 1;
const NONBLOCK_CLOEXEC: c_int = 0o4000 | 0o2_000_000;

unsafe extern "C" {
    fn socket(family: c_int, kind: c_int, protocol: c_int) -> c_int;
    fn bind(fd: c_int, address: *const c_void, length: c_uint) -> c_int;
    fn listen(fd: c_int, backlog: c_int) -> c_int;
    fn accept4(fd: c_int, address: *mut c_void, length: *mut c_uint, flags: c_int) -> c_int;
    #[link_name = "connect"]
    fn c_connect(fd: c_int, address: *const c_void, length: c_uint) -> c_int;
}

/// The context of vsock that is the host.
pub(crate) const HOST: u32 = 2;

/// Listens on a vsock port, where the kernel has vsock. Nothing waits.
pub(crate) fn listen_vsock(port: u32) -> io::Result<OwnedFd> {
    const BACKLOG: c_int = 16;
    const ANY: c_uint = c_uint::MAX;
    let listener = stream(AF_VSOCK)?;
    let family = AF_VSOCK.unsigned_abs().try_into().unwrap_or(0);
    let address = VsockAddress { family, port, cid: ANY, ..VsockAddress::default() };
    // SAFETY: the pointer is to an address of this length.
    check(unsafe {
        bind(listener.as_raw_fd(), (&raw const address).cast::<c_void>(), length(&address))
    })?;
    // SAFETY: it takes no pointer.
    check(unsafe { listen(listener.as_raw_fd(), BACKLOG) })?;
    Ok(listener)
}

/// Takes a connection, and says from which context it comes.
pub(crate) fn accept_vsock(listener: &OwnedFd) -> io::Result<(File, u32)> {
    let mut peer = VsockAddress::default();
    let mut length = length(&peer);
    // SAFETY: the pointers are to an address and to its length.
    let fd = check(unsafe {
        let peer = (&raw mut peer).cast::<c_void>();
        accept4(listener.as_raw_fd(), peer, &raw mut length, NONBLOCK_CLOEXEC)
    })?;
    // SAFETY: the descriptor is new, and nobody else's.
    Ok((unsafe { File::from_raw_fd(fd) }, peer.cid))
}

/// Begins to connect. The connection can be written to once it stands, and says then if it does
/// not.
pub(crate) fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    const EINPROGRESS: i32 = 115;
    let port = address.port().to_be_bytes();
    let (stream, connected) = match address.ip() {
        IpAddr::V4(ip) => {
            let stream = stream(AF_INET)?;
            let address = Ipv4Address {
                family: AF_INET.unsigned_abs().try_into().unwrap_or(0),
                port,
                address: ip.octets(),
                zero: [0; 8],
            };
            // SAFETY: the pointer is to an address of this length.
            let connected = check(unsafe {
                let pointer = (&raw const address).cast::<c_void>();
                c_connect(stream.as_raw_fd(), pointer, length(&address))
            });
            (stream, connected)
        }
        IpAddr::V6(ip) => {
            let stream = stream(AF_INET6)?;
            let address = Ipv6Address {
                family: AF_INET6.unsigned_abs().try_into().unwrap_or(0),
                port,
                flow: 0,
                address: ip.octets(),
                scope: 0,
            };
            // SAFETY: the pointer is to an address of this length.
            let connected = check(unsafe {
                let pointer = (&raw const address).cast::<c_void>();
                c_connect(stream.as_raw_fd(), pointer, length(&address))
            });
            (stream, connected)
        }
    };
    match connected {
        Err(error) if error.raw_os_error() != Some(EINPROGRESS) => Err(error),
        _ => Ok(stream.into()),
    }
}

/// A socket for streams, on which nothing waits.
fn stream(family: c_int) -> io::Result<OwnedFd> {
    // SAFETY: it takes no pointer.
    let fd = check(unsafe { socket(family, SOCK_STREAM | NONBLOCK_CLOEXEC, 0) })?;
    // SAFETY: the descriptor is new, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn length<T>(address: &T) -> c_uint {
    // An address has some dozens of bytes.
    c_uint::try_from(size_of_val(address)).unwrap_or(0)
}
