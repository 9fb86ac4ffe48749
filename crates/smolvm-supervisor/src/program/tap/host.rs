//! The host's side: a slot of the pool, the table of rules for all guests, and the end of a guest's
//! link.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::Ipv4Addr;

use super::{Arguments, Guest, commands, host_device};
use crate::egress::Network;
use crate::network::policy::FORBIDDEN;
use crate::pool::{DEVICES, Pool, TABLE, devices};
use crate::sys;

/// The next router of every guest's namespace: no device has this address, nobody asks for it.
pub(super) const ROUTER: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

/// Takes a slot, and sees to it that the host has the rules for all guests.
pub(super) fn take(arguments: &Arguments) -> io::Result<Guest> {
    let pool = Pool::open(&arguments.directory)?;
    let network = arguments.addresses.network();
    let is_used = pool.is_used();
    match pool.table().filter(|_| is_used) {
        Some(table) if table != network.to_string() => {
            let why = format!("other VMs have addresses from {table}, and one pool serves all");
            return Err(io::Error::other(why));
        }
        Some(_) => {}
        None => check_routes(network)?,
    }
    // The kernel may still be removing the devices of a guest that has just ended.
    let devices = devices()?;
    let slot = pool.take(arguments.addresses, |slot| devices.contains(&host_device(slot)))?;
    let slot = slot.ok_or_else(|| io::Error::other(format!("all of {network} is taken")))?;
    pool.set_table(&network.to_string())?;
    commands::nft(&arguments.nft, &table(network))?;
    Ok(Guest::of(slot, arguments.addresses))
}

/// Makes the host's end of the guest's link lead to the guest.
pub(super) fn connect(arguments: &Arguments, guest: &Guest) -> io::Result<()> {
    let (device, (_, inside)) = (guest.host_device(), guest.link_addresses());
    let address = guest.address;
    sys::in_network_of(std::os::unix::process::parent_id(), || {
        // The host is to have no address on it. Without IPv6 there is no such file.
        let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{device}/disable_ipv6"), "1");
        let lines = [
            format!("link set {device} up"),
            format!("route add {address}/32 dev {device}"),
            format!("neighbour add {address} lladdr {inside} dev {device} nud permanent"),
        ];
        commands::ip(&arguments.ip, &lines)
    })?
}

/// Refuses a pool of which the host reaches a part otherwise.
fn check_routes(pool: Network) -> io::Result<()> {
    // `Iface Destination Gateway Flags RefCnt Use Metric Mask …`, numbers as in memory.
    let routes = fs::read_to_string("/proc/thread-self/net/route")?;
    for line in routes.lines().skip(1) {
        let mut fields = line.split_ascii_whitespace();
        let device = fields.next().unwrap_or_default();
        let number = |text: Option<&str>| u32::from_str_radix(text?, 16).ok().map(u32::from_be);
        let (destination, mask) = (number(fields.next()), number(fields.nth(5)));
        let (Some(destination), Some(mask)) = (destination, mask) else { continue };
        let prefix = u8::try_from(mask.count_ones()).unwrap_or(32);
        let route = Network::new(Ipv4Addr::from_bits(destination), prefix);
        let overlap = route.contains(pool.address) || pool.contains(route.address);
        if overlap && prefix > 0 && !device.starts_with(DEVICES) {
            let why = format!(
                "the addresses for guests, {pool}, overlap with {route}, which this host reaches \
                 by {device}. Name others in SMOLVM_TAP_POOL, such as 10.99.0.0/16"
            );
            return Err(io::Error::other(why));
        }
    }
    Ok(())
}

/// The table for all guests, in place of one that may be there: a guest does not reach the host but
/// to answer it, nor other guests, nor what nobody may reach, and is reached by the host alone;
/// beyond the host its packets have the host's address.
fn table(pool: Network) -> String {
    let mut forbidden = String::new();
    for network in FORBIDDEN {
        // Writing to a String does not fail.
        let _ = write!(forbidden, "{network}, ");
    }
    format!(
        r#"table inet {TABLE}
delete table inet {TABLE}
table inet {TABLE} {{
    chain input {{
        type filter hook input priority -10; policy accept;
        iifname != "{DEVICES}*" accept
        ct state established,related accept
        meta nfproto ipv4 reject with icmp type admin-prohibited
        drop
    }}
    chain forward {{
        type filter hook forward priority -10; policy accept;
        iifname "{DEVICES}*" oifname "{DEVICES}*" drop
        iifname "{DEVICES}*" meta nfproto != ipv4 drop
        iifname "{DEVICES}*" ip saddr != {pool} drop
        iifname "{DEVICES}*" ip daddr {{ {forbidden}{pool} }} drop
        oifname "{DEVICES}*" ct state established,related accept
        oifname "{DEVICES}*" drop
    }}
    chain postrouting {{
        type nat hook postrouting priority 100; policy accept;
        ip saddr {pool} oifname != "{DEVICES}*" masquerade
    }}
}}
"#
    )
}
