//! Waiting for any of many descriptors.

use std::ffi::{c_int, c_short, c_ulong};
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, RawFd};
use std::time::Duration;

use super::check;

/// What to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Events(c_short);

/// The descriptors to wait for, each with a token that says whose it is.
#[derive(Debug)]
pub(crate) struct PollSet<T> {
    descriptors: Vec<PollFd>,
    tokens: Vec<T>,
}

/// `struct pollfd`.
#[derive(Debug)]
#[repr(C)]
struct PollFd {
    fd: RawFd,
    events: c_short,
    happened: c_short,
}

/// `nfds_t` of the 64-bit platforms.
type Count = c_ulong;

unsafe extern "C" {
    fn poll(descriptors: *mut PollFd, count: Count, timeout: c_int) -> c_int;
}

impl Events {
    /// There is something to read, or the end.
    pub(crate) const READ: Self = Self(1);
    /// There is room to write.
    pub(crate) const WRITE: Self = Self(4);
    /// Both.
    pub(crate) const BOTH: Self = Self(5);
}

impl<T: Copy> PollSet<T> {
    pub(crate) fn new() -> Self {
        Self { descriptors: Vec::new(), tokens: Vec::new() }
    }

    /// Forgets all descriptors.
    pub(crate) fn clear(&mut self) {
        self.descriptors.clear();
        self.tokens.clear();
    }

    /// Adds a descriptor. An end or an error is always waited for as well.
    pub(crate) fn add(&mut self, descriptor: BorrowedFd<'_>, events: Events, token: T) {
        let fd = descriptor.as_raw_fd();
        self.descriptors.push(PollFd { fd, events: events.0, happened: 0 });
        self.tokens.push(token);
    }

    /// Waits until something has happened, or for so long; for ever where there is no time-out. A
    /// signal ends it early.
    pub(crate) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        // A fraction of a millisecond must not become a busy loop.
        let milliseconds = timeout.map(|timeout| timeout.as_micros().div_ceil(1000));
        let milliseconds = milliseconds.map_or(-1, |ms| c_int::try_from(ms).unwrap_or(c_int::MAX));
        let count = self.descriptors.len() as Count;
        // SAFETY: the pointer is to so many initialised elements, which nobody else uses meanwhile.
        match check(unsafe { poll(self.descriptors.as_mut_ptr(), count, milliseconds) }) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }

    /// The tokens of those to which something has happened by the last [`PollSet::wait`].
    pub(crate) fn happened(&self) -> impl Iterator<Item = T> + '_ {
        let happened = self.descriptors.iter().map(|descriptor| descriptor.happened != 0);
        self.tokens.iter().copied().zip(happened).filter_map(|(token, yes)| yes.then_some(token))
    }
}
