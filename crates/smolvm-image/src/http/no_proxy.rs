//! [`NoProxy`]: the hosts that are reached without the proxy.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use url::{Host, Url};

/// The value of `NO_PROXY`: entries that are separated by commas or white space.
///
/// An entry is `*` (everything), a domain (itself and all below it, with or without a leading
/// dot), an IP address or a network in CIDR notation (RFC 4632); all but networks may end in
/// `:port`. As for curl, loopback names are not exempt unless an entry says so.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct NoProxy(Vec<Entry>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry {
    All,
    Net(IpNet),
    Address(IpAddr, Option<u16>),
    /// In lower case, without dots at its ends.
    Domain(String, Option<u16>),
}

impl NoProxy {
    /// Reads a list. Every text is one: an entry that fits nothing exempts nothing.
    pub(super) fn parse(text: &str) -> Self {
        let entries = text.split(|c: char| c == ',' || c.is_whitespace());
        Self(entries.filter_map(Entry::parse).collect())
    }

    /// Whether the server of `url` is on the list.
    pub(super) fn exempts(&self, url: &Url) -> bool {
        let Some(host) = url.host() else { return false };
        self.0.iter().any(|entry| entry.matches(&host, url.port_or_known_default()))
    }
}

impl Entry {
    fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            return None;
        }
        if text == "*" {
            return Some(Self::All);
        }
        if let Ok(net) = text.parse() {
            return Some(Self::Net(net));
        }
        // Before the split: an IPv6 address has colons of its own.
        if let Some(address) = parse_address(text) {
            return Some(Self::Address(address, None));
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(u16::from_str(port).ok()?)),
            None => (text, None),
        };
        if let Some(address) = parse_address(host) {
            return Some(Self::Address(address, port));
        }
        let domain = host.trim_start_matches('*').trim_matches('.').to_ascii_lowercase();
        (!domain.is_empty()).then_some(Self::Domain(domain, port))
    }

    fn matches(&self, host: &Host<&str>, port: Option<u16>) -> bool {
        let port_fits = |wanted: &Option<u16>| wanted.is_none() || *wanted == port;
        let address = match *host {
            Host::Ipv4(address) => Some(IpAddr::from(address)),
            Host::Ipv6(address) => Some(IpAddr::from(address)),
            Host::Domain(_) => None,
        };
        match self {
            Self::All => true,
            Self::Net(net) => address.is_some_and(|address| net.contains(&address)),
            Self::Address(wanted, wanted_port) => {
                address == Some(*wanted) && port_fits(wanted_port)
            }
            Self::Domain(domain, wanted_port) => {
                let Host::Domain(host) = *host else {
                    return false;
                };
                is_below(host.trim_end_matches('.'), domain) && port_fits(wanted_port)
            }
        }
    }
}

/// An IP address, in brackets or without.
fn parse_address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok()
}

/// Whether `host` is `domain` or ends in a dot and `domain`. Hosts of URLs are in lower case.
fn is_below(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain).is_some_and(|front| front.is_empty() || front.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Behaviour 23: `NO_PROXY` is honoured.
    #[test]
    fn hosts_on_the_list_are_exempt() {
        for (list, url, exempt) in [
            ("*", "http://h/", true),
            ("", "http://h/", false),
            (" , ,", "http://h/", false),
            ("example.com", "http://example.com/", true),
            ("example.com", "http://a.b.example.com/", true),
            ("example.com", "http://badexample.com/", false),
            ("example.com", "http://example.com.evil/", false),
            (".example.com", "http://a.example.com/", true),
            (".example.com", "http://example.com/", true),
            ("*.example.com", "http://a.example.com/", true),
            ("EXAMPLE.com.", "http://a.Example.COM./", true),
            ("a, example.com ,b", "https://example.com/", true),
            ("a example.com", "https://example.com/", true),
            ("example.com:8080", "http://example.com:8080/", true),
            ("example.com:8080", "http://example.com/", false),
            ("example.com:443", "https://example.com/", true),
            ("example.com:x", "http://example.com/", false),
            ("localhost", "http://127.0.0.1/", false),
            ("example.com", "http://localhost/", false),
            ("127.0.0.1", "http://127.0.0.1:9/", true),
            ("127.0.0.1:8", "http://127.0.0.1:9/", false),
            ("10.0.0.0/8", "http://10.200.1.1/", true),
            ("10.0.0.0/8", "http://11.0.0.1/", false),
            ("10.0.0.0/40", "http://10.0.0.1/", false),
            ("0.0.1", "http://10.0.0.1/", false),
            ("::1", "http://[::1]:80/", true),
            ("[::1]:80", "http://[::1]/", true),
            ("[::1]:81", "http://[::1]/", false),
            ("fd00::/8", "http://[fd12::1]/", true),
        ] {
            let url = url.parse().unwrap();
            assert_eq!(NoProxy::parse(list).exempts(&url), exempt, "{list:?} {url}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text: String, odd in "[0-9a-f.:/*\\[\\], ]{0,30}") {
            let url = "http://10.0.0.1/".parse().unwrap();
            let _ = NoProxy::parse(&text).exempts(&url);
            let _ = NoProxy::parse(&odd).exempts(&url);
        }
    }
}
