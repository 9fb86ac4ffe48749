//! [`VmId`]: the name of a virtual machine, parsed once.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher as _, Hasher as _};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

/// The name of a virtual machine: 1 to 64 of `a-z 0-9 -`, with no `-` at either end.
///
/// ```
/// use smolvm_vm::{IdError, VmId};
///
/// let id: VmId = "hello-vm".parse()?;
/// assert_eq!(id.as_str(), "hello-vm");
/// assert_eq!("../etc".parse::<VmId>(), Err(IdError::Character('.')));
/// # Ok::<(), IdError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct VmId(String);

/// Why a text is no [`VmId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdError {
    /// Nothing.
    #[error("a VM's id cannot be empty")]
    Empty,
    /// More than 64 bytes.
    #[error("a VM's id has at most {MAX} characters, this one has {0}")]
    TooLong(usize),
    /// A character outside the alphabet.
    #[error("{0:?} is not allowed in a VM's id: it is made of a-z 0-9 and -")]
    Character(char),
    /// It starts or ends with `-`.
    #[error("a VM's id neither starts nor ends with -")]
    Hyphen,
}

const MAX: usize = 64;

impl VmId {
    /// A new id that no other machine is likely to have, such as `vm-3f9a1c07b2d4`.
    #[must_use]
    pub fn make_up() -> Self {
        let unique = RandomState::new().build_hasher().finish() & 0xffff_ffff_ffff;
        Self(format!("vm-{unique:012x}"))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for VmId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        if text.is_empty() {
            return Err(IdError::Empty);
        }
        if text.len() > MAX {
            return Err(IdError::TooLong(text.len()));
        }
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if let Some(character) = text.chars().find(|&c| !allowed(c)) {
            return Err(IdError::Character(character));
        }
        if text.starts_with('-') || text.ends_with('-') {
            return Err(IdError::Hyphen);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for VmId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for VmId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_an_id_and_what_is_not() {
        for good in ["a", "0", "a-b", "hello-vm", &"x".repeat(64)] {
            assert_eq!(good.parse::<VmId>().unwrap().as_str(), good);
        }
        for bad in ["", "-a", "a-", "-", "A", "a b", "a/b", "a.b", "ä", "a\n", &"x".repeat(65)] {
            assert!(bad.parse::<VmId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn made_up_ids_are_ids_and_differ() {
        let (one, other) = (VmId::make_up(), VmId::make_up());
        assert_ne!(one, other);
        assert_eq!(one.as_str().parse(), Ok(one));
    }
}
