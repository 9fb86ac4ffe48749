//! [`Opened`]: the addresses that answers to allowed questions have opened, for a while.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use super::dns::Address;
use crate::egress::{Destination, Host};

/// The addresses that are open, each with one port or all.
#[derive(Debug, Default)]
pub(crate) struct Opened {
    until: HashMap<(Ipv4Addr, Option<u16>), Instant>,
}

/// How long an address is open at least: programs look a name up once and then go on to use it.
pub(crate) const LEAST: Duration = Duration::from_mins(1);
/// How long an address is open at most without being used or asked for again.
pub(crate) const MOST: Duration = Duration::from_hours(1);
/// How many addresses are kept. Whoever answers for an allowed name may tell as many as he likes.
const KEPT: usize = 4096;

impl Opened {
    /// Opens what the answer to the question for `name` tells.
    pub(crate) fn open(&mut self, allowed: &[Destination], name: &str, answers: &[Address]) {
        let now = Instant::now();
        for &(address, port, time) in &to_open(allowed, name, answers) {
            if self.until.len() >= KEPT {
                self.until.retain(|_, until| *until > now);
            }
            if self.until.len() < KEPT {
                self.until.insert((address, port), now + time);
            }
        }
    }

    /// Whether this is open. What is used stays open.
    pub(crate) fn contains(&mut self, address: Ipv4Addr, port: Option<u16>) -> bool {
        let now = Instant::now();
        let mut is_open = |port| match self.until.get_mut(&(address, port)) {
            Some(until) if *until > now => {
                *until = (*until).max(now + LEAST);
                true
            }
            _ => false,
        };
        is_open(None) || port.is_some() && is_open(port)
    }
}

/// What the answer to the question for a name opens: addresses, ports, and for how long.
pub(crate) fn to_open(
    allowed: &[Destination],
    name: &str,
    answers: &[Address],
) -> Vec<(Ipv4Addr, Option<u16>, Duration)> {
    let ports = allowed.iter().filter_map(|destination| match &destination.host {
        Host::Name(pattern) if pattern.matches(name) => Some(destination.port),
        _ => None,
    });
    let open = |port| {
        answers.iter().map(move |answer| {
            let time = Duration::from_secs(answer.seconds.into()).clamp(LEAST, MOST);
            (answer.address, port, time)
        })
    };
    ports.flat_map(open).collect()
}

/// Whether the question for a name may be asked.
pub(crate) fn may_ask(allowed: &[Destination], name: &str) -> bool {
    allowed.iter().any(|destination| match &destination.host {
        Host::Name(pattern) => pattern.matches(name),
        Host::Network(_) => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);

    fn allowed(texts: &[&str]) -> Vec<Destination> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn an_answer_opens_the_ports_that_are_allowed_for_its_name() {
        let allowed = allowed(&["a.example:443", "*.example:80", "b.example", "203.0.113.7:22"]);
        let answer = [Address { address: ADDRESS, seconds: 0 }];
        let mut opened = Opened::default();
        opened.open(&allowed, "other", &answer);
        assert!(!opened.contains(ADDRESS, Some(443)));
        opened.open(&allowed, "a.example", &answer);
        for (port, is_open) in
            [(Some(443), true), (Some(80), true), (Some(22), false), (None, false)]
        {
            assert_eq!(opened.contains(ADDRESS, port), is_open, "{port:?}");
        }
        opened.open(&allowed, "b.example", &answer);
        assert!(opened.contains(ADDRESS, None) && opened.contains(ADDRESS, Some(22)));
        assert!(!opened.contains(Ipv4Addr::new(203, 0, 113, 8), None));
    }

    #[test]
    fn answers_without_end_take_no_memory_without_end() {
        let allowed = allowed(&["a.example"]);
        let mut opened = Opened::default();
        for number in 0..10_000 {
            let address = Ipv4Addr::from_bits(0x0b00_0000 + number);
            opened.open(&allowed, "a.example", &[Address { address, seconds: 300 }]);
        }
        assert_eq!(opened.until.len(), KEPT);
    }
}
