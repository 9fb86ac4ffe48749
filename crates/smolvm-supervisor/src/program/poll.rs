//! A set of descriptors to wait for, each with a token that says whose it is.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _};
use std::time::Duration;

use crate::sys::{self, POLLIN, POLLOUT, PollFd};

/// Descriptors to wait for.
pub(crate) struct PollSet<T> {
    entries: Vec<PollFd>,
    tokens: Vec<T>,
}

/// What a descriptor is ready for. One that has an error or no other end any more is ready for
/// whatever it was waited for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ready {
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// The other end is gone, or there is an error.
    pub(crate) closed: bool,
}

impl<T: Copy> PollSet<T> {
    pub(crate) fn new() -> Self {
        Self { entries: Vec::new(), tokens: Vec::new() }
    }

    /// Whether there is nothing to wait for.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds a descriptor. It must stay open until [`wait`](Self::wait) returns.
    pub(crate) fn add(&mut self, fd: impl AsFd, token: T, readable: bool, writable: bool) {
        let events = if readable { POLLIN } else { 0 } | if writable { POLLOUT } else { 0 };
        self.entries.push(PollFd { fd: fd.as_fd().as_raw_fd(), events, revents: 0 });
        self.tokens.push(token);
    }

    /// Waits until one of them is ready or the time is over; returns those that are ready.
    pub(crate) fn wait(mut self, timeout: Option<Duration>) -> io::Result<Vec<(T, Ready)>> {
        sys::wait(&mut self.entries, timeout)?;
        let ready = |entry: &PollFd| {
            let closed = entry.revents & !(POLLIN | POLLOUT) != 0;
            Ready {
                readable: entry.revents & POLLIN != 0 || closed && entry.events & POLLIN != 0,
                writable: entry.revents & POLLOUT != 0 || closed && entry.events & POLLOUT != 0,
                closed,
            }
        };
        let entries = self.entries.iter().zip(self.tokens);
        let touched = entries.filter(|(entry, _)| entry.revents != 0);
        Ok(touched.map(|(entry, token)| (token, ready(entry))).collect())
    }
}
