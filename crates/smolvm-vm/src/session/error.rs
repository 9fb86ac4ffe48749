//! [`SessionError`]: everything that can go wrong between the host and the guest's agent, by what
//! the caller can do about it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use smolvm_protocol::{Failure, FailureKind, MAX_CHANNELS, MAX_PAYLOAD, ProtocolError};

use super::command::Command;
use super::guest_text::GuestText;

/// Why the guest did not do what it was asked to. The message names the command, file or port and
/// says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// Nobody listens on the VM's socket.
    #[error(
        "cannot reach the VM's supervisor at {}: {source}. The VM is probably not running: start it",
        socket.display()
    )]
    Connect {
        /// The supervisor's socket.
        socket: PathBuf,
        /// Why not.
        source: io::Error,
    },

    /// The agent did not answer before the deadline.
    #[error(
        "the guest's agent did not answer within {waited:?}. Look at the VM's console log, or allow a longer boot time-out"
    )]
    NotReady {
        /// How long it was waited for.
        waited: Duration,
    },

    /// The session ended under what was being done: with the VM, or with its supervisor.
    #[error("the VM ended: its agent can be reached no more. Look at the VM's console log")]
    Disconnected,

    /// The guest cannot be believed any more; the session was ended.
    #[error(
        "the guest's agent broke the protocol ({0}); the session with it was ended. Delete the VM: what runs in it cannot be trusted to answer"
    )]
    Protocol(ProtocolError),

    /// The guest takes in nothing of what it is sent; the session was ended.
    #[error(
        "the guest's agent does not read what it is sent; the session with it was ended. Stop the VM, and start it again"
    )]
    NotReading,

    /// The guest does not answer a request.
    #[error("the guest did not answer within {waited:?} when asked to {request}")]
    NotAnswering {
        /// What it was asked to do.
        request: String,
        /// How long it was waited for.
        waited: Duration,
    },

    /// As much is going on already as a session can hold.
    #[error(
        "{MAX_CHANNELS} commands, copies and connections are open already. Wait for some to end"
    )]
    TooManyAtOnce,

    /// A command that no system could run.
    #[error("cannot run {command}: {reason}")]
    InvalidCommand {
        /// The command.
        command: String,
        /// What is wrong with it.
        reason: &'static str,
    },

    /// The command line and environment are longer than one message.
    #[error(
        "cannot run {command}: its arguments and environment take {length} bytes, at most {MAX_PAYLOAD} can be sent. Send large input through stdin, or copy a file into the guest"
    )]
    CommandTooLong {
        /// The command.
        command: String,
        /// The bytes that it takes.
        length: usize,
    },

    /// The guest has no such program.
    #[error("cannot run {command}: no such program in the guest ({message})")]
    CommandNotFound {
        /// The command.
        command: String,
        /// What the guest says.
        message: GuestText,
    },

    /// The program exists, but is none that can be executed.
    #[error("cannot run {command}: it cannot be executed ({message})")]
    NotExecutable {
        /// The command.
        command: String,
        /// What the guest says.
        message: GuestText,
    },

    /// The guest has no such user.
    #[error(
        "cannot run {command} as user {user:?}: the guest has no such user ({message}). Give a name of its /etc/passwd, or digits: uid or uid:gid"
    )]
    NoSuchUser {
        /// The command.
        command: String,
        /// The user.
        user: String,
        /// What the guest says.
        message: GuestText,
    },

    /// The working directory cannot be entered.
    #[error("cannot run {command} in {}: {message}", cwd.display())]
    WorkingDirectory {
        /// The command.
        command: String,
        /// The working directory.
        cwd: PathBuf,
        /// What the guest says.
        message: GuestText,
    },

    /// The command took too long. It was ended, with all of its process group.
    #[error(
        "{command} did not end within {after:?}, so it was killed. Allow it a longer time-out, or none"
    )]
    CommandTimeout {
        /// The command.
        command: String,
        /// The time-out.
        after: Duration,
        /// What it had written to standard output by then.
        stdout: Vec<u8>,
        /// What it had written to standard error by then.
        stderr: Vec<u8>,
    },

    /// The command wrote more than was to be captured. It was ended, with all of its process
    /// group.
    #[error(
        "{command} wrote more than {limit} bytes, so it was killed. Raise max_output, or read its output as it comes (popen)"
    )]
    OutputTooLarge {
        /// The command.
        command: String,
        /// The limit in bytes, over both streams.
        limit: u64,
    },

    /// The guest could not do it, for another reason than those above.
    #[error("the guest cannot {request}: {message}")]
    Guest {
        /// What it was asked to do.
        request: String,
        /// The class of the failure.
        kind: FailureKind,
        /// What the guest says.
        message: GuestText,
    },

    /// A path in the guest that cannot be one.
    #[error("{path:?} is no path in the guest: {reason}")]
    InvalidGuestPath {
        /// The path as given.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },

    /// A file of the host could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was to be done.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },

    /// The guest sends more than the copy may have.
    #[error(
        "copying {path:?} out of the guest was stopped at {limit}. What is whole already stays in {}; copy less, or raise the limit",
        destination.display()
    )]
    CopyTooLarge {
        /// The path in the guest.
        path: PathBuf,
        /// Where it was copied to.
        destination: PathBuf,
        /// The limit, with its unit.
        limit: String,
    },

    /// The guest sends files in a way that would lead out of the destination.
    #[error(
        "copying {path:?} out of the guest was stopped: it sent {entry:?}, which {reason}. Nothing was written there"
    )]
    CopyRefused {
        /// The path in the guest.
        path: PathBuf,
        /// What it sent.
        entry: String,
        /// What is wrong with it.
        reason: &'static str,
    },

    /// No port of the host could be opened.
    #[error(
        "cannot forward 127.0.0.1:{host_port} to port {guest_port} of the guest: {source}. Leave the host's port open (0) to have a free one chosen"
    )]
    Forward {
        /// The port of the host, 0 for any.
        host_port: u16,
        /// The port of the guest.
        guest_port: u16,
        /// Why not.
        source: io::Error,
    },

    /// The caller's [`CancelToken`](smolvm_image::CancelToken) was cancelled.
    #[error("cancelled")]
    Cancelled,

    /// The host itself is out of something that a session needs.
    #[error("cannot {action}: {source}")]
    Host {
        /// What was to be done.
        action: &'static str,
        /// Why not.
        source: io::Error,
    },
}

impl SessionError {
    /// What it means that the guest could not run `command`.
    pub(super) fn from_exec(command: &Command, failure: &Failure) -> Self {
        let message = GuestText::new(&failure.message);
        let user = command.user.clone();
        let cwd = command.cwd.clone();
        let command = command.to_string();
        match (failure.kind, user, cwd) {
            (FailureKind::NotFound, ..) => Self::CommandNotFound { command, message },
            (FailureKind::NotExecutable, ..) => Self::NotExecutable { command, message },
            (FailureKind::NoSuchUser, Some(user), _) => Self::NoSuchUser { command, user, message },
            (FailureKind::WorkingDirectory, _, Some(cwd)) => {
                Self::WorkingDirectory { command, cwd, message }
            }
            (kind, ..) => Self::Guest { request: format!("run {command}"), kind, message },
        }
    }

    /// What it means that something could not be done with a file of the host.
    pub(super) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), source }
    }

    /// What it means that the guest could not do `request`.
    pub(super) fn from_failure(request: &str, failure: &Failure) -> Self {
        let message = GuestText::new(&failure.message);
        Self::Guest { request: request.to_owned(), kind: failure.kind, message }
    }
}
