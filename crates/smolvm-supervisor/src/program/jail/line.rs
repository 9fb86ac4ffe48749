//! [`Line`]: the supervisor's end of what it and the keeper of a jail tell each other.

use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

/// The supervisor's end. When it is closed, the jail ends with all that is in it.
#[derive(Debug)]
pub(crate) struct Line {
    stream: UnixStream,
    status: Option<ExitStatus>,
}

impl Line {
    /// A line, and the keeper's end of it.
    pub(crate) fn new() -> io::Result<(Self, OwnedFd)> {
        let (stream, theirs) = UnixStream::pair()?;
        stream.set_nonblocking(true)?;
        Ok((Self { stream, status: None }, theirs.into()))
    }

    /// The guest runs: the copies in the jail are needed no more.
    pub(crate) fn forget_copies(&mut self) {
        // One that is gone needs none either.
        let _ = self.stream.write(b"r");
    }

    /// How that ended which was in the jail, if the keeper has seen it.
    pub(crate) fn status(&mut self) -> Option<ExitStatus> {
        let mut raw = [0; 4];
        if self.status.is_none() && self.stream.read_exact(&mut raw).is_ok() {
            self.status = Some(ExitStatus::from_raw(i32::from_ne_bytes(raw)));
        }
        self.status
    }
}

/// Tells the supervisor, by the other end, how that ended which was in the jail.
pub(super) fn tell(mut stream: &UnixStream, status: ExitStatus) {
    let _ = stream.write_all(&status.into_raw().to_ne_bytes());
}
