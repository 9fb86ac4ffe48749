//! [`Permit`]: a connection to a host beyond the first of a transfer. However many files come
//! from one host, it is asked for no more than so many.

use std::collections::BTreeMap;

use smolvm_fork::ForkMutex;

/// Connections of this process to one host, beyond one for each file.
const MOST: usize = 16;

/// By the process, too: a forked child has none of its parent's transfers.
static HOSTS: ForkMutex<BTreeMap<(u32, String), usize>> = ForkMutex::new(BTreeMap::new());

/// Ends with the connection.
#[derive(Debug)]
pub(super) struct Permit((u32, String));

impl Permit {
    /// `None` where the host has enough of us.
    pub(super) fn take(host: &str) -> Option<Self> {
        let key = (std::process::id(), host.to_owned());
        let mut hosts = HOSTS.lock();
        let count = hosts.entry(key.clone()).or_default();
        (*count < MOST).then(|| {
            *count += 1;
            Self(key)
        })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(count) = HOSTS.lock().get_mut(&self.0) {
            *count -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_so_many_and_gets_them_back() {
        let all: Vec<_> = std::iter::from_fn(|| Permit::take("a.test:1")).collect();
        assert_eq!(all.len(), MOST);
        assert!(Permit::take("b.test:1").is_some());
        drop(all);
        assert!(Permit::take("a.test:1").is_some());
    }
}
