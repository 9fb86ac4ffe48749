//! How a command ended ([`ExitStatus`]), and what it wrote ([`CommandResult`]).

use std::borrow::Cow;
use std::time::Duration;

use smolvm_protocol::Exit;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExitStatus {
    exit: Exit,
    guest_duration: Duration,
}

/// What a command wrote, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CommandResult {
    /// The exit code; where a signal ended the command, the signal's number, negative.
    pub exit_code: i32,
    /// All that it wrote to standard output.
    pub stdout: Vec<u8>,
    /// All that it wrote to standard error.
    pub stderr: Vec<u8>,
    /// From the request to its answer, by the host's clock.
    pub duration: Duration,
    /// From the guest's taking up of the request to the command's end, by the guest's clock.
    pub guest_duration: Duration,
}

impl ExitStatus {
    pub(super) fn new(exit: Exit, nanos: u64) -> Self {
        Self { exit, guest_duration: Duration::from_nanos(nanos) }
    }

    /// The exit code; where a signal ended the command, the signal's number, negative.
    #[must_use]
    pub fn exit_code(&self) -> i32 {
        match self.exit {
            Exit::Code(code) => i32::from(code),
            Exit::Signal(signal) => -i32::from(signal),
        }
    }

    /// The signal that ended the command, if one did.
    #[must_use]
    pub fn signal(&self) -> Option<i32> {
        match self.exit {
            Exit::Code(_) => None,
            Exit::Signal(signal) => Some(i32::from(signal)),
        }
    }

    /// Whether the command exited with code 0.
    #[must_use]
    pub fn ok(&self) -> bool {
        self.exit == Exit::Code(0)
    }

    /// From the guest's taking up of the request to the command's end, by the guest's clock.
    #[must_use]
    pub fn guest_duration(&self) -> Duration {
        self.guest_duration
    }
}

impl CommandResult {
    /// Standard output as text; what is not UTF-8 is replaced by `U+FFFD`.
    #[must_use]
    pub fn stdout(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.stdout)
    }

    /// Standard error as text; what is not UTF-8 is replaced by `U+FFFD`.
    #[must_use]
    pub fn stderr(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.stderr)
    }

    /// Whether the command exited with code 0.
    #[must_use]
    pub fn ok(&self) -> bool {
        self.exit_code == 0
    }

    /// The signal that ended the command, if one did.
    #[must_use]
    pub fn signal(&self) -> Option<i32> {
        (self.exit_code < 0).then_some(-self.exit_code)
    }
}
