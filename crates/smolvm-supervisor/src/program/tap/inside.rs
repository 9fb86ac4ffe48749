//! The namespace of a guest: its devices, and the rules by which its packets leave it.

use std::fmt::Write as _;
use std::fs;
use std::io;

use super::{Arguments, Guest, commands};
use crate::egress::{Egress, Host};
use crate::network::policy::{FORBIDDEN, NOT_ONE_HOST};
use crate::pool::{SLOT_PREFIX, TABLE};

/// The guest's device.
const TAP: &str = "tap0";
/// The end of the link to the host.
const LINK: &str = "host0";

/// The sets of addresses that answers to allowed questions have opened: with all ports, and with
/// one each.
pub(super) const OPEN_ADDRESSES: &str = "addresses";
pub(super) const OPEN_PORTS: &str = "ports";

/// Makes the namespace of the calling thread that of the guest.
pub(super) fn set_up(arguments: &Arguments, guest: &Guest) -> io::Result<()> {
    // The rules come first: nothing passes before they are there.
    commands::nft(&arguments.nft, &rules(arguments, guest))?;
    for which in ["all", "default"] {
        // Without IPv6 there is no such file.
        let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{which}/disable_ipv6"), "1");
        // A packet is not to choose its own way.
        fs::write(format!("/proc/sys/net/ipv4/conf/{which}/accept_source_route"), "0")?;
        fs::write(format!("/proc/sys/net/ipv4/conf/{which}/rp_filter"), "1")?;
    }
    fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;

    let (host, (outside, inside)) = (std::os::unix::process::parent_id(), guest.link_addresses());
    let owner = arguments.owner.map_or(String::new(), |owner| format!(" user {owner}"));
    let (device, router) = (guest.host_device(), super::host::ROUTER);
    commands::ip(
        &arguments.ip,
        &[
            format!("tuntap add dev {TAP} mode tap vnet_hdr{owner}"),
            format!("address add {}/{SLOT_PREFIX} dev {TAP}", guest.gateway),
            format!("link set {TAP} up"),
            format!(
                "link add {LINK} address {inside} type veth \
                 peer name {device} address {outside} netns {host}"
            ),
            format!("link set {LINK} up"),
            format!("neighbour add {router} lladdr {outside} dev {LINK} nud permanent"),
            format!("route add default via {router} dev {LINK} onlink"),
        ],
    )
}

/// The rules: the guest sends as itself alone, over IPv4, to what it may reach; of this namespace
/// itself it reaches the name server.
fn rules(arguments: &Arguments, guest: &Guest) -> String {
    let (gateway, address) = (guest.gateway, guest.address);
    let mut forbidden = arguments.addresses.network().to_string();
    for network in FORBIDDEN {
        // Writing to a String does not fail.
        let _ = write!(forbidden, ", {network}");
    }
    let names = match arguments.name_server {
        Some(_) => {
            format!("iifname {TAP} ip saddr {address} ip daddr {gateway} udp dport 53 accept")
        }
        None => String::new(),
    };
    format!(
        r"table inet {TABLE} {{
    set {OPEN_ADDRESSES} {{
        type ipv4_addr; flags timeout; size 4096;
    }}
    set {OPEN_PORTS} {{
        type ipv4_addr . inet_service; flags timeout; size 4096;
    }}
    chain input {{
        type filter hook input priority 0; policy drop;
        {names}
        meta nfproto ipv4 reject with icmp type admin-prohibited
    }}
    chain forward {{
        type filter hook forward priority 0; policy drop;
        iifname {LINK} oifname {TAP} ip daddr {address} accept
        iifname != {TAP} drop
        ip saddr != {address} drop
        meta nfproto != ipv4 drop
        ip hdrlength != 5 drop
        ip daddr {NOT_ONE_HOST} drop
        ip daddr {{ {forbidden} }} reject with icmp type admin-prohibited
        ct state established,related accept
{}        meta nfproto ipv4 reject with icmp type admin-prohibited
    }}
}}
",
        allowed(&arguments.egress)
    )
}

/// The rules that let pass what may be reached.
fn allowed(egress: &Egress) -> String {
    let destinations = match egress {
        Egress::All => return "        accept\n".to_owned(),
        Egress::Nothing => return String::new(),
        Egress::Allow(destinations) => destinations,
    };
    let mut rules = format!(
        "        ip daddr @{OPEN_ADDRESSES} accept\n        \
         meta l4proto {{ tcp, udp }} ip daddr . th dport @{OPEN_PORTS} accept\n"
    );
    for destination in destinations {
        // Writing to a String does not fail.
        let _ = match (&destination.host, destination.port) {
            (Host::Name(_), _) => continue,
            (Host::Network(network), None) => {
                writeln!(rules, "        ip daddr {network} accept")
            }
            (Host::Network(network), Some(port)) => writeln!(
                rules,
                "        ip daddr {network} meta l4proto {{ tcp, udp }} th dport {port} accept"
            ),
        };
    }
    rules
}
