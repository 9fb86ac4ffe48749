//! The guest's network, as the host wants it.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use smolvm_protocol::{Failure, FailureKind, Network};

mod names;

use super::failure::{failure, io_failure};
use crate::boot::console;
use crate::sys::interface::Interface;

/// Where the kernel shows its interfaces.
const INTERFACES: &str = "/sys/class/net";

/// Brings up the interface by which the guest reaches itself.
pub(super) fn set_up_loopback() {
    // A kernel may have no network at all; whoever wants one is told then.
    let _ = number(Path::new(INTERFACES), "lo")
        .and_then(|number| Interface::new("lo", number))
        .and_then(|interface| interface.bring_up());
}

/// Sets up the first Ethernet device, the host name, and where names are looked up.
///
/// The files of the root file system are brought in line as far as they can be written; where they
/// cannot, the guest has a network without names.
pub(super) fn set_up(network: &Network) -> Result<(), Failure> {
    let name = host_name(network)?;
    let device = first_ethernet(Path::new(INTERFACES)).map_err(|error| {
        let what = "the guest has no network device (its kernel may lack the driver virtio_net)";
        io_failure(what, &error)
    })?;
    configure(&device, network).map_err(|error| {
        io_failure(format_args!("the guest's network cannot be set to {}", network.address), &error)
    })?;
    if let Some(name) = name
        && let Err(error) = fs::write("/proc/sys/kernel/hostname", name)
    {
        return Err(io_failure("the guest's host name cannot be set", &error));
    }
    for (file, result) in [
        ("/etc/resolv.conf", names::set_servers(&network.name_servers)),
        ("/etc/hosts", names::set_host(network.address, name)),
    ] {
        if let Err(error) = result {
            console::note(format_args!("cannot write {file}: {error}"));
        }
    }
    Ok(())
}

fn configure(device: &str, network: &Network) -> io::Result<()> {
    let interface = Interface::new(device, number(Path::new(INTERFACES), device)?)?;
    if network.address.is_ipv6() {
        // The host has given the address to nobody else, and it is to be used at once.
        let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{device}/accept_dad"), "0");
    }
    if let Some(mtu) = network.mtu {
        interface.set_mtu(mtu)?;
    }
    interface.bring_up()?;
    interface.set_address(network.address, network.prefix)?;
    if let Some(gateway) = network.gateway {
        let is_near = is_in_network(gateway, network.address, network.prefix);
        interface.set_gateway(gateway, is_near)?;
    }
    Ok(())
}

/// The host name, if one is wanted. It is written to files, where it must not say anything else.
fn host_name(network: &Network) -> Result<Option<&str>, Failure> {
    /// `HOST_NAME_MAX` of Linux.
    const MAX: usize = 64;
    let name = network.host_name.as_str();
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if name.len() > MAX || !name.bytes().all(is_good) {
        let message = format_args!("`{}` cannot be a host name", name.escape_debug());
        return Err(failure(FailureKind::Other, message));
    }
    Ok((!name.is_empty()).then_some(name))
}

/// The name of the Ethernet device that the kernel has found first.
fn first_ethernet(interfaces: &Path) -> io::Result<String> {
    const ETHERNET: &str = "1";
    let mut found = Vec::new();
    for entry in fs::read_dir(interfaces)? {
        let entry = entry?;
        let kind = fs::read_to_string(entry.path().join("type")).unwrap_or_default();
        // Bridges and the like are made of no device.
        if kind.trim_end() == ETHERNET
            && entry.path().join("device").exists()
            && let Ok(name) = entry.file_name().into_string()
        {
            found.push((number(interfaces, &name)?, name));
        }
    }
    found.into_iter().min().map(|(_, name)| name).ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// The number of an interface.
fn number(interfaces: &Path, name: &str) -> io::Result<i32> {
    let number = fs::read_to_string(interfaces.join(name).join("ifindex"))?;
    number.trim_end().parse().map_err(io::Error::other)
}

fn is_in_network(address: IpAddr, network: IpAddr, prefix: u8) -> bool {
    let differ = match (address, network) {
        (IpAddr::V4(one), IpAddr::V4(other)) => u128::from(one.to_bits() ^ other.to_bits()) << 96,
        (IpAddr::V6(one), IpAddr::V6(other)) => one.to_bits() ^ other.to_bits(),
        _ => return false,
    };
    differ.leading_zeros() >= prefix.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(dir: &Path, name: &str, kind: u32, number: u32, is_device: bool) {
        let dir = dir.join(name);
        fs::create_dir_all(dir.join(if is_device { "device" } else { "bridge" })).unwrap();
        fs::write(dir.join("type"), format!("{kind}\n")).unwrap();
        fs::write(dir.join("ifindex"), format!("{number}\n")).unwrap();
    }

    #[test]
    fn the_first_ethernet_device_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        interface(dir.path(), "lo", 772, 1, false);
        interface(dir.path(), "sit0", 776, 2, true);
        interface(dir.path(), "br0", 1, 3, false);
        assert!(first_ethernet(dir.path()).is_err());
        interface(dir.path(), "ens10", 1, 10, true);
        interface(dir.path(), "ens9", 1, 9, true);
        assert_eq!(first_ethernet(dir.path()).unwrap(), "ens9");
    }

    #[test]
    fn a_gateway_may_be_outside_of_the_network() {
        let is_in = |address: &str, network: &str, prefix| {
            is_in_network(address.parse().unwrap(), network.parse().unwrap(), prefix)
        };
        assert!(is_in("10.0.2.2", "10.0.2.15", 24));
        assert!(!is_in("10.0.3.2", "10.0.2.15", 24));
        assert!(is_in("10.0.3.2", "10.0.2.15", 23));
        assert!(!is_in("10.0.2.2", "10.0.2.15", 32));
        assert!(is_in("1.1.1.1", "10.0.2.15", 0));
        assert!(is_in("fd00::2", "fd00::15", 64));
        assert!(!is_in("fe80::2", "fd00::15", 64));
        assert!(!is_in("10.0.2.2", "fd00::15", 0));
    }

    #[test]
    fn a_host_name_is_one_word() {
        let network = |host_name: &str| Network {
            address: [10, 0, 2, 15].into(),
            prefix: 24,
            gateway: None,
            name_servers: Vec::new(),
            mtu: None,
            host_name: host_name.to_owned(),
        };
        assert_eq!(host_name(&network("vm-1.local")).unwrap(), Some("vm-1.local"));
        assert_eq!(host_name(&network("")).unwrap(), None);
        for bad in ["a b", "a\n10.0.0.1 b", "\u{e9}", &"a".repeat(65)] {
            assert!(host_name(&network(bad)).is_err(), "{bad:?}");
        }
    }
}
