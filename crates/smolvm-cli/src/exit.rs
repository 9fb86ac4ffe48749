//! [`Exit`]: the exit codes, which `smolvm --help` and docs/cli.md promise to scripts.

use std::process::ExitCode;

use smolvm::ErrorKind;

/// How the command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Done = 0,
    Failed = 1,
    Usage = 2,
    UnknownImage = 3,
    Verification = 4,
    Network = 5,
    /// 128 and the number of SIGINT, as shells have it.
    Interrupted = 130,
}

impl Exit {
    /// The code as a number.
    pub(crate) fn code(self) -> u8 {
        self as u8
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
