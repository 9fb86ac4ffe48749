//! [`Bytes`]: content that a failed assertion does not print in full.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use smolvm_testkit::content::{self, sha256_hex};

/// The content of a file.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Bytes(Vec<u8>);

/// As [`content::noise`].
pub(crate) fn noise(seed: u64, len: usize) -> Bytes {
    Bytes(content::noise(seed, len))
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes with the digest {}", self.len(), sha256_hex(self))
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for Bytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl From<Bytes> for Arc<[u8]> {
    fn from(bytes: Bytes) -> Self {
        bytes.0.into()
    }
}
