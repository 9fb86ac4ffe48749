//! [`Wire`]: a connected socket that looks at the cancel flag and the clock while it waits.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::cancel::{CancelToken, POLL};

/// A blocking socket whose reads and writes end when cancelled or when nothing moves any more.
#[derive(Debug)]
pub(super) struct Wire {
    socket: TcpStream,
    cancel: CancelToken,
    /// How long a read or write may wait for its first byte.
    stall: Duration,
    /// When the step that is under way must be over, for steps that are small as a whole.
    deadline: Option<Instant>,
}

/// Why a wait was given up; travels inside an [`io::Error`], through rustls too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Interruption {
    #[error("cancelled")]
    Cancelled,
    #[error("no data for {} s", .0.as_secs_f32())]
    Stalled(Duration),
}

impl Wire {
    /// Takes over a connected socket.
    pub(super) fn new(
        socket: TcpStream,
        stall: Duration,
        cancel: &CancelToken,
    ) -> io::Result<Self> {
        // The kernel wakes a waiting read this often, which costs no system call while data flows.
        socket.set_read_timeout(Some(POLL))?;
        socket.set_write_timeout(Some(POLL))?;
        socket.set_nodelay(true)?;
        Ok(Self { socket, cancel: cancel.clone(), stall, deadline: None })
    }

    /// Begins a step (TLS handshake, head of a response) that has the stall time as a whole, so
    /// that a peer cannot stretch it byte by byte.
    pub(super) fn begin_step(&mut self) {
        self.deadline = Some(Instant::now() + self.stall);
    }

    /// Ends the step: from now on only silence counts.
    pub(super) fn end_step(&mut self) {
        self.deadline = None;
    }

    fn patiently<T>(&self, mut transfer: impl FnMut(&TcpStream) -> io::Result<T>) -> io::Result<T> {
        let stalled = || io::Error::other(Interruption::Stalled(self.stall));
        let started = Instant::now();
        // Bytes that keep coming do not move the end of a step.
        if self.deadline.is_some_and(|deadline| started >= deadline) {
            return Err(stalled());
        }
        let silent_until = started + self.stall;
        let until = self.deadline.map_or(silent_until, |deadline| deadline.min(silent_until));
        loop {
            if self.cancel.is_cancelled() {
                return Err(io::Error::other(Interruption::Cancelled));
            }
            match transfer(&self.socket) {
                Err(error) if is_wake_up(&error) => {}
                done => return done,
            }
            if Instant::now() >= until {
                return Err(stalled());
            }
        }
    }
}

/// Whether the system call ended only to let us look around.
fn is_wake_up(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.patiently(|mut socket| socket.read(buffer))
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.patiently(|mut socket| socket.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
