//! The host's name server, as passt finds it in `/etc/resolv.conf` (`resolv.conf(5)`).

use std::net::Ipv4Addr;

/// The first name server with an IPv4 address that this host has: the one that passt passes a
/// guest's questions on to. Without one it would pass them on to this host itself.
pub(super) fn of_this_host() -> Option<Ipv4Addr> {
    first_in(&fs_err::read_to_string("/etc/resolv.conf").ok()?)
}

fn first_in(configuration: &str) -> Option<Ipv4Addr> {
    configuration
        .lines()
        .filter_map(|line| line.strip_prefix("nameserver")?.trim().parse().ok())
        .find(|address: &Ipv4Addr| !address.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_ipv4_address_counts() {
        let local = Some(Ipv4Addr::new(127, 0, 0, 53));
        assert_eq!(first_in("# made\nsearch lan\nnameserver 127.0.0.53\n"), local);
        assert_eq!(
            first_in("nameserver fd00::1\nnameserver\t127.0.0.53 \nnameserver 9.9.9.9"),
            local
        );
        for none in
            ["", "nameserver ::1", "#nameserver 9.9.9.9", "nameserver x", "nameserver 0.0.0.0"]
        {
            assert_eq!(first_in(none), None, "{none}");
        }
    }
}
