//! [`Here`]: a value that is of no use in a forked child.

use std::mem;
use std::process;

/// A value that works with threads and sockets of this process. A child that is forked has a copy
/// of it, and none of these; there it is never touched, not even to drop it: another thread may
/// have held one of its locks.
#[derive(Debug)]
pub(crate) struct Here<T> {
    value: Option<T>,
    process: u32,
}

impl<T> Here<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { value: Some(value), process: process::id() }
    }

    /// The value, in the process that made it.
    pub(crate) fn get(&self) -> Option<&T> {
        self.value.as_ref().filter(|_| self.is_here())
    }

    /// As [`get`](Self::get), to change it.
    pub(crate) fn get_mut(&mut self) -> Option<&mut T> {
        if self.is_here() { self.value.as_mut() } else { None }
    }

    /// Takes the value out, in the process that made it.
    pub(crate) fn take(&mut self) -> Option<T> {
        if self.is_here() { self.value.take() } else { None }
    }

    pub(crate) fn is_here(&self) -> bool {
        self.process == process::id()
    }
}

impl<T> Drop for Here<T> {
    fn drop(&mut self) {
        if !self.is_here() {
            mem::forget(self.value.take());
        }
    }
}
