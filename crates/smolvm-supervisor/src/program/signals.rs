//! The signals that reach the supervisor, as reads.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd};

use crate::sys;

/// The signals that have come and were not looked at yet.
pub(crate) struct Signals(File);

/// The size of `struct signalfd_siginfo`, which begins with the signal's number.
const RECORD: usize = 128;

impl Signals {
    /// From now on `SIGTERM` and `SIGCHLD` are read here, and a terminal's signals are ignored.
    pub(crate) fn catch() -> io::Result<Self> {
        sys::catch_signals().map(|fd| Self(fd.into()))
    }

    /// Takes the signals that have come. Returns whether this process was told to end.
    pub(crate) fn take(&mut self) -> bool {
        let mut is_told_to_end = false;
        let mut record = [0; RECORD];
        while let Ok(RECORD) = self.0.read(&mut record) {
            let number = i32::from_ne_bytes([record[0], record[1], record[2], record[3]]);
            is_told_to_end |= number == sys::SIGTERM;
        }
        is_told_to_end
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
