//! Network interfaces: their flags, addresses and routes, by the requests of `netdevice(7)`.

use std::ffi::{CString, c_char, c_int, c_short, c_ulong, c_ushort, c_void};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::ptr;

use super::check;
use super::descriptor::{IoctlRequest, ioctl};

/// A network interface, by its name and number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Interface {
    name: CString,
    number: c_int,
}

/// `struct sockaddr_in`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Address {
    family: c_ushort,
    port: u16,
    /// In the order of the network.
    octets: [u8; 4],
    zero: [u8; 8],
}

/// `struct ifreq`: a name, and a union of 24 bytes.
#[repr(C)]
struct InterfaceRequest<T> {
    name: [u8; 16],
    value: T,
    rest: [u64; 3],
}

/// `struct rtentry`.
#[repr(C)]
struct Route {
    padding_1: c_ulong,
    destination: Address,
    gateway: Address,
    mask: Address,
    flags: c_ushort,
    padding_2: c_short,
    padding_3: c_ulong,
    padding_4: *const c_void,
    metric: c_short,
    device: *const c_char,
    mtu: c_ulong,
    window: c_ulong,
    initial_time: c_ushort,
}

/// `struct in6_ifreq`.
#[repr(C)]
struct Address6Request {
    address: [u8; 16],
    prefix: u32,
    number: c_int,
}

/// `struct in6_rtmsg`.
#[repr(C)]
struct Route6 {
    destination: [u8; 16],
    source: [u8; 16],
    gateway: [u8; 16],
    kind: u32,
    destination_prefix: u16,
    source_prefix: u16,
    metric: u32,
    information: c_ulong,
    flags: u32,
    number: c_int,
}

const SIOCADDRT: IoctlRequest = 0x890b;
const SIOCGIFFLAGS: IoctlRequest = 0x8913;
const SIOCSIFFLAGS: IoctlRequest = 0x8914;
const SIOCSIFADDR: IoctlRequest = 0x8916;
const SIOCSIFNETMASK: IoctlRequest = 0x891c;
const SIOCSIFMTU: IoctlRequest = 0x8922;

const RTF_UP: c_ushort = 1;
const RTF_GATEWAY: c_ushort = 2;
const RTF_HOST: c_ushort = 4;

impl Interface {
    /// The interface of this name and number.
    pub(crate) fn new(name: &str, number: i32) -> io::Result<Self> {
        Ok(Self { name: CString::new(name)?, number })
    }

    /// Brings it up.
    pub(crate) fn bring_up(&self) -> io::Result<()> {
        const IFF_UP: c_short = 1;
        let mut request = self.request::<c_short>(0)?;
        let socket = ipv4()?;
        request.send(&socket, SIOCGIFFLAGS)?;
        request.value |= IFF_UP;
        request.send(&socket, SIOCSIFFLAGS)
    }

    /// Limits its packets to so many bytes.
    pub(crate) fn set_mtu(&self, mtu: u16) -> io::Result<()> {
        let mut request = self.request(c_int::from(mtu))?;
        request.send(&ipv4()?, SIOCSIFMTU)
    }

    /// Gives it an address.
    pub(crate) fn set_address(&self, address: IpAddr, prefix: u8) -> io::Result<()> {
        match address {
            IpAddr::V4(address) => {
                let socket = ipv4()?;
                let mut request = self.request(Address::of(address))?;
                request.send(&socket, SIOCSIFADDR)?;
                let mut request = self.request(Address::of(mask(prefix)))?;
                request.send(&socket, SIOCSIFNETMASK)
            }
            IpAddr::V6(address) => {
                let request = Address6Request {
                    address: address.octets(),
                    prefix: prefix.into(),
                    number: self.number,
                };
                // SAFETY: the request reads a `struct in6_ifreq` from the pointer, which is to one.
                unless_there(check(unsafe {
                    ioctl(ipv6()?.as_raw_fd(), SIOCSIFADDR, &raw const request)
                }))
            }
        }
    }

    /// Has everything that is not nearer go to `gateway`. Where that is not in the interface's own
    /// network (`is_near`), it is said to be reached by the interface all the same.
    pub(crate) fn set_gateway(&self, gateway: IpAddr, is_near: bool) -> io::Result<()> {
        match gateway {
            IpAddr::V4(gateway) => {
                let socket = ipv4()?;
                let (none, all) = (Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST);
                if !is_near {
                    self.add_route(&socket, (gateway, all), none, RTF_UP | RTF_HOST)?;
                }
                self.add_route(&socket, (none, none), gateway, RTF_UP | RTF_GATEWAY)
            }
            IpAddr::V6(gateway) => {
                let socket = ipv6()?;
                let none = Ipv6Addr::UNSPECIFIED;
                if !is_near {
                    self.add_route_6(&socket, (gateway, 128), none, RTF_UP | RTF_HOST)?;
                }
                self.add_route_6(&socket, (none, 0), gateway, RTF_UP | RTF_GATEWAY)
            }
        }
    }

    fn add_route(
        &self,
        socket: &UdpSocket,
        (destination, mask): (Ipv4Addr, Ipv4Addr),
        gateway: Ipv4Addr,
        flags: c_ushort,
    ) -> io::Result<()> {
        let route = Route {
            padding_1: 0,
            destination: Address::of(destination),
            gateway: Address::of(gateway),
            mask: Address::of(mask),
            flags,
            padding_2: 0,
            padding_3: 0,
            padding_4: ptr::null(),
            metric: 0,
            device: self.name.as_ptr(),
            mtu: 0,
            window: 0,
            initial_time: 0,
        };
        // SAFETY: the request reads a `struct rtentry` from the pointer, which is to one, and a
        // name that ends with NUL from the pointer in it.
        unless_there(check(unsafe { ioctl(socket.as_raw_fd(), SIOCADDRT, &raw const route) }))
    }

    fn add_route_6(
        &self,
        socket: &UdpSocket,
        (destination, destination_prefix): (Ipv6Addr, u16),
        gateway: Ipv6Addr,
        flags: c_ushort,
    ) -> io::Result<()> {
        let route = Route6 {
            destination: destination.octets(),
            source: [0; 16],
            gateway: gateway.octets(),
            kind: 0,
            destination_prefix,
            source_prefix: 0,
            metric: 1,
            information: 0,
            flags: flags.into(),
            number: self.number,
        };
        // SAFETY: the request reads a `struct in6_rtmsg` from the pointer, which is to one.
        unless_there(check(unsafe { ioctl(socket.as_raw_fd(), SIOCADDRT, &raw const route) }))
    }

    fn request<T>(&self, value: T) -> io::Result<InterfaceRequest<T>> {
        let mut name = [0; 16];
        let bytes = self.name.as_bytes_with_nul();
        let place = name.get_mut(..bytes.len()).ok_or(io::ErrorKind::InvalidFilename)?;
        place.copy_from_slice(bytes);
        Ok(InterfaceRequest { name, value, rest: [0; 3] })
    }
}

impl<T> InterfaceRequest<T> {
    fn send(&mut self, socket: &UdpSocket, number: IoctlRequest) -> io::Result<()> {
        // SAFETY: the request reads and writes a `struct ifreq`; what the pointer is to is no
        // smaller than one.
        check(unsafe { ioctl(socket.as_raw_fd(), number, ptr::from_mut(self)) })?;
        Ok(())
    }
}

impl Address {
    fn of(address: Ipv4Addr) -> Self {
        const AF_INET: c_ushort = 2;
        Self { family: AF_INET, port: 0, octets: address.octets(), zero: [0; 8] }
    }
}

/// Any socket of the family is good for asking.
fn ipv4() -> io::Result<UdpSocket> {
    UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
}

fn ipv6() -> io::Result<UdpSocket> {
    UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))
}

fn mask(prefix: u8) -> Ipv4Addr {
    let host_bits = 32_u32.saturating_sub(prefix.into());
    Ipv4Addr::from_bits(u32::MAX.checked_shl(host_bits).unwrap_or(0))
}

/// What is there already need not be added.
fn unless_there(result: io::Result<c_int>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_a_mask() {
        assert_eq!(mask(0), Ipv4Addr::UNSPECIFIED);
        assert_eq!(mask(23), Ipv4Addr::new(255, 255, 254, 0));
        assert_eq!(mask(32), Ipv4Addr::BROADCAST);
    }

    #[test]
    fn a_request_is_as_long_as_the_kernel_has_it() {
        assert!(size_of::<InterfaceRequest<Address>>() >= 40);
        assert_eq!(size_of::<Route>(), 120);
        assert_eq!(size_of::<Route6>(), 80);
    }
}
