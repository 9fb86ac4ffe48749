//! What the host is told when something fails.

use std::fmt::Display;
use std::io;

use smolvm_protocol::{Failure, FailureKind, Reply};

/// A final reply that says what failed.
pub(super) fn failed(kind: FailureKind, message: impl Display) -> Reply {
    Reply::Failed(failure(kind, message))
}

pub(super) fn failure(kind: FailureKind, message: impl Display) -> Failure {
    Failure { kind, message: message.to_string() }
}

/// What failed because the system said so.
pub(super) fn io_failure(what: impl Display, error: &io::Error) -> Failure {
    failure(kind(error), format_args!("{what}: {error}"))
}

fn kind(error: &io::Error) -> FailureKind {
    use io::ErrorKind as Error;
    match error.kind() {
        Error::NotFound => FailureKind::NotFound,
        Error::PermissionDenied | Error::ReadOnlyFilesystem => FailureKind::Denied,
        Error::AlreadyExists
        | Error::NotADirectory
        | Error::IsADirectory
        | Error::DirectoryNotEmpty => FailureKind::Exists,
        Error::StorageFull
        | Error::QuotaExceeded
        | Error::FileTooLarge
        | Error::OutOfMemory
        | Error::WouldBlock => FailureKind::Limit,
        Error::ConnectionRefused => FailureKind::ConnectionRefused,
        _ => match error.raw_os_error() {
            Some(EMFILE | ENFILE) => FailureKind::Limit,
            _ => FailureKind::Other,
        },
    }
}

const ENFILE: i32 = 23;
const EMFILE: i32 = 24;

/// A path or name, for people.
pub(super) fn shown(bytes: &[u8]) -> impl Display + '_ {
    String::from_utf8_lossy(bytes)
}
