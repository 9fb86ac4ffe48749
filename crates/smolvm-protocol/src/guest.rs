//! What concerns the guest as a whole: its network, its end, and what its agent says first.

use alloc::string::String;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::error::ProtocolError;
use crate::wire::{Reader, Write as _};

/// The guest's network: what its agent sets up on its first Ethernet device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// Its address.
    pub address: IpAddr,
    /// How many bits of the address are those of its network.
    pub prefix: u8,
    /// Where all else is reached, if anything is.
    pub gateway: Option<IpAddr>,
    /// Its name servers.
    pub name_servers: Vec<IpAddr>,
    /// The largest packet in bytes, where it is not the device's own.
    pub mtu: Option<u16>,
    /// The guest's host name.
    pub host_name: String,
}

/// How the guest is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PowerOff {
    /// Ask its init, which ends what runs in order; the agent itself where there is none.
    Orderly,
    /// At once: file systems are synced, nothing is asked.
    Now,
}

/// What the agent says first, on [`SESSION_CHANNEL`](crate::SESSION_CHANNEL).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Welcome {
    /// The version of the agent.
    pub agent: String,
    /// The release of the guest's kernel.
    pub kernel: String,
    /// Whether the image's own init runs beside the agent.
    pub has_init: bool,
    /// How long the guest had run by then, in nanoseconds.
    pub uptime: u64,
}

impl Welcome {
    /// The longest text in it, in bytes.
    pub const MAX_TEXT: usize = 256;

    pub(crate) fn write(&self, wire: &mut Vec<u8>) {
        wire.bytes(self.agent.as_bytes());
        wire.bytes(self.kernel.as_bytes());
        wire.u8(u8::from(self.has_init));
        wire.u64(self.uptime);
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, ProtocolError> {
        let welcome = Self {
            agent: reader.text()?,
            kernel: reader.text()?,
            has_init: reader.bool()?,
            uptime: reader.u64()?,
        };
        if welcome.agent.len() > Self::MAX_TEXT || welcome.kernel.len() > Self::MAX_TEXT {
            return Err(ProtocolError::Malformed("a version is too long"));
        }
        Ok(welcome)
    }
}

impl Network {
    pub(crate) fn write(&self, wire: &mut Vec<u8>) {
        address(wire, self.address);
        wire.u8(self.prefix);
        wire.option(self.gateway, address);
        wire.u32(u32::try_from(self.name_servers.len()).unwrap_or(u32::MAX));
        for &server in &self.name_servers {
            address(wire, server);
        }
        wire.option(self.mtu, Vec::u16);
        wire.bytes(self.host_name.as_bytes());
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, ProtocolError> {
        let network = Self {
            address: read_address(reader)?,
            prefix: reader.u8()?,
            gateway: reader.option(read_address)?,
            name_servers: reader.list(read_address)?,
            mtu: reader.option(Reader::u16)?,
            host_name: reader.text()?,
        };
        let bits = if network.address.is_ipv4() { 32 } else { 128 };
        if network.prefix > bits {
            return Err(ProtocolError::Malformed("an address has not so many bits"));
        }
        Ok(network)
    }
}

impl PowerOff {
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Orderly => 0,
            Self::Now => 1,
        }
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, ProtocolError> {
        match reader.u8()? {
            0 => Ok(Self::Orderly),
            1 => Ok(Self::Now),
            _ => Err(ProtocolError::Malformed("there is no such way to end")),
        }
    }
}

fn address(wire: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => wire.bytes(&address.octets()),
        IpAddr::V6(address) => wire.bytes(&address.octets()),
    }
}

fn read_address(reader: &mut Reader<'_>) -> Result<IpAddr, ProtocolError> {
    let octets = reader.bytes()?;
    if let Ok(octets) = <[u8; 4]>::try_from(octets.as_slice()) {
        Ok(Ipv4Addr::from(octets).into())
    } else if let Ok(octets) = <[u8; 16]>::try_from(octets.as_slice()) {
        Ok(Ipv6Addr::from(octets).into())
    } else {
        Err(ProtocolError::Malformed("an address has 4 or 16 bytes"))
    }
}
