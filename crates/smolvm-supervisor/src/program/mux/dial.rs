//! Reaching the agent over the guest's vsock, by the Unix socket of a VMM that leads there: who
//! connects says a port, and the VMM answers once somebody in the guest has taken the connection
//! ("Setting up the virtio-vsock device" in `docs/vsock.md` of Firecracker).

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use smolvm_protocol::VSOCK_PORT;

/// The attempts to reach the agent. Until it listens, each is refused.
pub(super) struct Dial {
    vsock: PathBuf,
    attempt: Option<Attempt>,
    /// When to begin the next one.
    next: Instant,
}

/// A connection for which the answer is awaited.
struct Attempt {
    stream: UnixStream,
    answer: Vec<u8>,
    begun: Instant,
}

/// The least and the most time between two attempts. The first one is answered late: by the driver
/// of a guest that is still to boot.
const PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// How often the time that a refusal took is waited for before the next attempt: the guest's kernel
/// answers each of them, and a slow guest has something better to do.
const PATIENCE: u32 = 10;

/// The VMM answers with `OK`, a number and a line feed.
const LONGEST: usize = 32;

impl Dial {
    pub(super) fn new(vsock: &Path) -> Self {
        Self { vsock: vsock.to_owned(), attempt: None, next: Instant::now() }
    }

    /// The connection for which an answer is awaited.
    pub(super) fn awaited(&self) -> Option<&UnixStream> {
        self.attempt.as_ref().map(|attempt| &attempt.stream)
    }

    /// After what time to [proceed](Self::proceed), unless an answer comes before.
    pub(super) fn patience(&self) -> Option<Duration> {
        let is_idle = self.attempt.is_none();
        is_idle.then(|| self.next.saturating_duration_since(Instant::now()))
    }

    /// Goes on as far as it can without waiting. The connection, once the agent has taken it.
    pub(super) fn proceed(&mut self) -> Option<UnixStream> {
        let now = Instant::now();
        if self.attempt.is_none() && now < self.next {
            return None;
        }
        self.next = now + PAUSE;
        let mut attempt = match self.attempt.take() {
            Some(attempt) => attempt,
            // The VMM may not listen yet.
            None => Attempt::begin(&self.vsock).ok()?,
        };
        match attempt.hear() {
            Ok(true) => return Some(attempt.stream),
            Ok(false) => self.attempt = Some(attempt),
            // Nobody listens in the guest yet.
            Err(_) => {
                let pause = attempt.begun.elapsed() * PATIENCE;
                self.next = now + pause.clamp(PAUSE, LONGEST_PAUSE);
            }
        }
        None
    }
}

impl Attempt {
    fn begin(vsock: &Path) -> io::Result<Self> {
        let begun = Instant::now();
        let mut stream = UnixStream::connect(vsock)?;
        stream.set_nonblocking(true)?;
        stream.write_all(format!("CONNECT {VSOCK_PORT}\n").as_bytes())?;
        Ok(Self { stream, answer: Vec::new(), begun })
    }

    /// Whether the connection stands. Not a byte more is read than the answer: the next one is
    /// the agent's.
    fn hear(&mut self) -> io::Result<bool> {
        loop {
            let mut byte = [0];
            match self.stream.read(&mut byte) {
                Ok(0) => return Err(io::ErrorKind::ConnectionReset.into()),
                Ok(_) => {}
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return Ok(false),
                    io::ErrorKind::Interrupted => continue,
                    _ => return Err(error),
                },
            }
            self.answer.extend(byte);
            match byte {
                [b'\n'] if self.answer.starts_with(b"OK ") => return Ok(true),
                [b'\n'] => return Err(io::ErrorKind::InvalidData.into()),
                _ if self.answer.len() > LONGEST => return Err(io::ErrorKind::InvalidData.into()),
                _ => {}
            }
        }
    }
}
