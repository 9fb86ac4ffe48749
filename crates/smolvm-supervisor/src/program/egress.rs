//! [`Egress`]: what a guest may reach, as people write it and as it is handed on.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::{error, fmt};

/// What a guest may reach.
///
/// Whatever it is, the guest reaches neither this host, under whatever address, nor link-local
/// addresses, nor those at which clouds serve metadata, nor other guests.
///
/// As text it is `all`, `nothing`, or `allow` and destinations with spaces between.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Egress {
    /// Everything else.
    #[default]
    All,
    /// Nothing. Names have no addresses either.
    Nothing,
    /// These destinations alone. No name is looked up but those that are allowed.
    Allow(Vec<Destination>),
}

/// Something that a guest may reach: an address, a network or a name, with all ports or one.
///
/// ```
/// # use smolvm_supervisor::egress::Destination;
/// for text in ["203.0.113.7", "198.51.100.0/24:443", "example.com", "*.debian.org:443"] {
///     assert_eq!(text.parse::<Destination>()?.to_string(), text);
/// }
/// # Ok::<(), smolvm_supervisor::egress::DestinationError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// Who it is.
    pub(crate) host: Host,
    /// The port, of TCP and UDP; all of every protocol where there is none.
    pub(crate) port: Option<u16>,
}

/// Who a destination is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Host {
    /// One address, or several with the same first bits.
    Network(Network),
    /// The addresses that the host's name server tells for a name.
    Name(NamePattern),
}

/// Addresses with the same first bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Network {
    pub(crate) address: Ipv4Addr,
    pub(crate) prefix: u8,
}

/// A name, or with `*.` before it all names that end in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamePattern {
    /// In lower case, without a dot at the end.
    name: String,
    is_suffix: bool,
}

/// A text that is no destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DestinationError {
    text: String,
    reason: &'static str,
}

impl Network {
    pub(crate) const fn new(address: Ipv4Addr, prefix: u8) -> Self {
        Self { address, prefix }
    }

    pub(crate) fn contains(self, address: Ipv4Addr) -> bool {
        let differing = self.address.to_bits() ^ address.to_bits();
        differing.leading_zeros() >= u32::from(self.prefix)
    }
}

impl NamePattern {
    /// Whether a name, in lower case, is one of those that are meant.
    pub(crate) fn matches(&self, name: &str) -> bool {
        if !self.is_suffix {
            return name == self.name;
        }
        name.strip_suffix(self.name.as_str())
            .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
    }
}

impl FromStr for Destination {
    type Err = DestinationError;

    fn from_str(text: &str) -> Result<Self, DestinationError> {
        let refused = |reason| DestinationError { text: text.to_owned(), reason };
        if text.parse::<Ipv6Addr>().is_ok() || text.starts_with('[') || text.contains("::") {
            return Err(refused("guests have IPv4 alone"));
        }
        let (host, port) = match text.split_once(':') {
            None => (text, None),
            Some((host, port)) => match port.parse() {
                Ok(port) if port > 0 => (host, Some(port)),
                _ => return Err(refused("a port is a number from 1 to 65535")),
            },
        };
        let host = if host.contains('/') || host.parse::<Ipv4Addr>().is_ok() {
            let network = host.parse().map_err(|()| refused("that is no network like 10.1.0.0/16"));
            Host::Network(network?)
        } else {
            Host::Name(NamePattern::parse(host).map_err(refused)?)
        };
        Ok(Self { host, port })
    }
}

impl FromStr for Network {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (address, prefix) = text.split_once('/').unwrap_or((text, "32"));
        let address: Ipv4Addr = address.parse().map_err(|_| ())?;
        let is_number = prefix.bytes().all(|byte| byte.is_ascii_digit());
        let prefix = prefix.parse().ok().filter(|prefix| *prefix <= 32 && is_number).ok_or(())?;
        let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
        Ok(Self { address: Ipv4Addr::from_bits(address.to_bits() & mask), prefix })
    }
}

impl NamePattern {
    /// A name by RFC 1035, and with underscores, as many are.
    fn parse(text: &str) -> Result<Self, &'static str> {
        const REASON: &str = "that is neither an address, nor a network, nor a name";
        let (name, is_suffix) = match text.strip_prefix("*.") {
            Some(name) => (name, true),
            None => (text, false),
        };
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        let is_label = |label: &str| {
            let is_good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
            (1..=63).contains(&label.len()) && label.bytes().all(is_good)
        };
        let last = name.rsplit('.').next().unwrap_or_default();
        // What ends in a number is an address that is none.
        let is_number = last.bytes().all(|byte| byte.is_ascii_digit());
        if name.len() > 253 || is_number || !name.split('.').all(is_label) {
            return Err(REASON);
        }
        Ok(Self { name, is_suffix })
    }
}

impl FromStr for Egress {
    type Err = DestinationError;

    fn from_str(text: &str) -> Result<Self, DestinationError> {
        let mut words = text.split_ascii_whitespace();
        match (words.next(), words.clone().next()) {
            (Some("all"), None) => Ok(Self::All),
            (Some("nothing"), None) => Ok(Self::Nothing),
            (Some("allow"), Some(_)) => {
                Ok(Self::Allow(words.map(str::parse).collect::<Result<_, _>>()?))
            }
            _ => {
                let reason = "it is neither all nor nothing nor allow and destinations";
                Err(DestinationError { text: text.to_owned(), reason })
            }
        }
    }
}

impl fmt::Display for Egress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => formatter.write_str("all"),
            Self::Allow(destinations) if !destinations.is_empty() => {
                formatter.write_str("allow")?;
                destinations.iter().try_for_each(|destination| write!(formatter, " {destination}"))
            }
            Self::Nothing | Self::Allow(_) => formatter.write_str("nothing"),
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Network(network) => write!(formatter, "{network}")?,
            Host::Name(pattern) => {
                let star = if pattern.is_suffix { "*." } else { "" };
                write!(formatter, "{star}{}", pattern.name)?;
            }
        }
        self.port.map_or(Ok(()), |port| write!(formatter, ":{port}"))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.prefix {
            32 => write!(formatter, "{}", self.address),
            prefix => write!(formatter, "{}/{prefix}", self.address),
        }
    }
}

impl fmt::Display for DestinationError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { text, reason } = self;
        write!(
            formatter,
            "{text:?} cannot be allowed: {reason}. Give an address, a network or a name, and :PORT \
             for one port alone, such as 203.0.113.0/24, example.com:443 or *.example.com"
        )
    }
}

impl error::Error for DestinationError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for text in [
            "all",
            "nothing",
            "allow 203.0.113.7",
            "allow 0.0.0.0/0:443 10.1.0.0/16 example.com *.a_b.example.com:53",
        ] {
            assert_eq!(text.parse::<Egress>().unwrap().to_string(), text);
        }
        let same = [("10.1.2.3/16", "10.1.0.0/16"), ("Example.COM.", "example.com")];
        for (text, normal) in same {
            assert_eq!(text.parse::<Destination>().unwrap().to_string(), normal);
        }
    }

    #[test]
    fn what_is_no_destination_is_refused_with_a_reason() {
        for (text, reason) in [
            ("", "name"),
            ("10.1.2", "name"),
            ("1.2.3.4.5", "name"),
            ("256.1.1.1", "name"),
            ("10.1.2.3/33", "network"),
            ("10.1.2.3/+8", "network"),
            ("10.1.2.3/", "network"),
            ("a..b", "name"),
            ("*", "name"),
            ("*.", "name"),
            ("a.*.com", "name"),
            ("a b.com", "name"),
            ("b\u{fc}cher.example", "name"),
            ("a.example:0", "port"),
            ("a.example:65536", "port"),
            ("a.example:https", "port"),
            ("https://a.example", "port"),
            ("::1", "IPv4"),
            ("[::1]:80", "IPv4"),
            ("fd00::/8", "IPv4"),
        ] {
            let error = text.parse::<Destination>().unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
        for text in ["", "allow", "all 10.1.2.3", "everything", "nothing allow"] {
            assert!(text.parse::<Egress>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_star_stands_for_what_is_before_the_dot() {
        let pattern = |text: &str| NamePattern::parse(text).unwrap();
        assert!(pattern("a.example").matches("a.example"));
        assert!(!pattern("a.example").matches("b.a.example"));
        for (name, is_meant) in [
            ("b.a.example", true),
            ("c.b.a.example", true),
            ("a.example", false),
            ("ba.example", false),
            (".a.example", false),
        ] {
            assert_eq!(pattern("*.a.example").matches(name), is_meant, "{name}");
        }
    }
}
