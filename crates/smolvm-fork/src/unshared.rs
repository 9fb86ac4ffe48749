//! [`Unshared`] and [`Hidden`]: open files that a forked child does not have.

use std::ops::{Deref, DerefMut};
use std::os::fd::{AsRawFd, RawFd};

use crate::hook;

/// A file or socket of this process alone: in a child that is forked, its descriptor leads to
/// `/dev/null`. A program that is executed is not concerned: descriptors are closed on `exec`
/// anyway.
#[derive(Debug)]
pub struct Unshared<T> {
    // Before the file is closed: its number may be another's at once.
    _hidden: Hidden,
    inner: T,
}

/// Keeps a descriptor from forked children while this lives, which must end before the descriptor
/// is closed: in a structure, this field comes before that of the file.
#[derive(Debug)]
#[must_use = "the descriptor is hidden for as long as this lives"]
pub struct Hidden {
    descriptor: RawFd,
}

impl<T: AsRawFd> Unshared<T> {
    /// Keeps `inner` from children that are forked from now on.
    pub fn new(inner: T) -> Self {
        Self { _hidden: Hidden::new(&inner), inner }
    }
}

impl<T> Deref for Unshared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> DerefMut for Unshared<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

impl Hidden {
    /// Hides the descriptor of `file`.
    pub fn new(file: &impl AsRawFd) -> Self {
        let descriptor = file.as_raw_fd();
        hook::hide(descriptor);
        Self { descriptor }
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        hook::show(self.descriptor);
    }
}
