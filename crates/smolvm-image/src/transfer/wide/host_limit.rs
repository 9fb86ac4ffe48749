//! [`Permit`]: a connection to a host beyond the first of a transfer. However many files come
//! from one host, it is asked for no more than so many.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Connections of this process to one host, beyond one for each file.
const MOST: usize = 16;

static HOSTS: Mutex<Option<HashMap<String, usize>>> = Mutex::new(None);

/// Ends with the connection.
#[derive(Debug)]
pub(super) struct Permit(String);

impl Permit {
    /// `None` where the host has enough of us.
    pub(super) fn take(host: &str) -> Option<Self> {
        let mut hosts = HOSTS.lock().unwrap_or_else(PoisonError::into_inner);
        let count = hosts.get_or_insert_default().entry(host.to_owned()).or_default();
        (*count < MOST).then(|| {
            *count += 1;
            Self(host.to_owned())
        })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut hosts = HOSTS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = hosts.as_mut().and_then(|hosts| hosts.get_mut(&self.0)) {
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
