//! [`Exit`]: the exit codes, which `smolvm --help` and docs/cli.md promise to scripts.

use std::process::ExitCode;

use smolvm::{ErrorKind, VmErrorKind};

/// How the command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Done,
    Failed,
    Usage,
    UnknownImage,
    Verification,
    Network,
    /// There is no such VM.
    UnknownVm,
    /// The command in the guest was killed because it took too long; as `timeout(1)` has it.
    TimedOut,
    /// `run` and `exec` themselves failed; this and the next two as `docker run` has them.
    RunFailed,
    NotExecutable,
    NotFound,
    /// 128 and the number of SIGINT, as shells have it.
    Interrupted,
    /// What a command in a guest ended with.
    Guest(u8),
}

impl Exit {
    /// The code as a number.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::UnknownImage => 3,
            Self::Verification => 4,
            Self::Network => 5,
            Self::UnknownVm => 6,
            Self::TimedOut => 124,
            Self::RunFailed => 125,
            Self::NotExecutable => 126,
            Self::NotFound => 127,
            Self::Interrupted => 130,
            Self::Guest(code) => code,
        }
    }

    /// What a command in a guest ended with: its exit code, or a signal's number, negative, which
    /// becomes 128 and the number, as shells have it.
    pub(crate) fn of_guest(exit_code: i32) -> Self {
        let code = if exit_code < 0 { 128 - exit_code } else { exit_code };
        Self::Guest(u8::try_from(code).unwrap_or(u8::MAX))
    }
}

impl From<VmErrorKind> for Exit {
    fn from(kind: VmErrorKind) -> Self {
        match kind {
            VmErrorKind::Usage => Self::Usage,
            VmErrorKind::NotFound => Self::UnknownVm,
            VmErrorKind::Cancelled => Self::Interrupted,
            _ => Self::Failed,
        }
    }
}

impl From<ErrorKind> for Exit {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Usage => Self::Usage,
            ErrorKind::UnknownImage => Self::UnknownImage,
            ErrorKind::Verification => Self::Verification,
            ErrorKind::Network => Self::Network,
            ErrorKind::Cancelled => Self::Interrupted,
            // The cache, and whatever kinds come later.
            _ => Self::Failed,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}
