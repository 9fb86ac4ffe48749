//! What is wrong with bytes ([`ProtocolError`]), and what a guest could not do ([`Failure`]).

use alloc::string::String;
use core::fmt;

/// The other side broke the protocol. Nothing more can be believed of the session.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProtocolError {
    /// A frame claims more bytes than any frame may have.
    FrameTooLong(u32),
    /// A frame of a kind that does not exist, or not in this direction.
    UnknownKind(u8),
    /// A message that ends early, has bytes too many, or a field that cannot be.
    Malformed(&'static str),
    /// More was sent on a stream than there was credit for, or more credit given than was used.
    Overrun,
    /// The other side speaks only versions that this one does not.
    Version(u16),
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FrameTooLong(length) => {
                write!(formatter, "a frame claims to have {length} bytes")
            }
            Self::UnknownKind(kind) => write!(formatter, "a frame has the unknown kind {kind}"),
            Self::Malformed(what) => write!(formatter, "a message is malformed: {what}"),
            Self::Overrun => write!(formatter, "more was sent than there was credit for"),
            Self::Version(version) => {
                write!(formatter, "the other side speaks version {version} of the protocol")
            }
        }
    }
}

impl core::error::Error for ProtocolError {}

/// What the guest could not do, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The class, for callers that react to it.
    pub kind: FailureKind,
    /// What happened, for people. At most [`Failure::MAX_MESSAGE`] bytes are sent.
    pub message: String,
}

/// The classes of [`Failure`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FailureKind {
    /// The program or file does not exist.
    NotFound,
    /// It exists, but cannot be executed.
    NotExecutable,
    /// The guest has no such user.
    NoSuchUser,
    /// The working directory cannot be entered.
    WorkingDirectory,
    /// The guest refused: permissions.
    Denied,
    /// There is something else under that name.
    Exists,
    /// Nobody listens on that port of the guest.
    ConnectionRefused,
    /// Too many channels are open, or the guest is out of memory or processes.
    Limit,
    /// The agent does not know how to do that.
    Unsupported,
    /// Anything else.
    Other,
}

impl Failure {
    /// The most bytes that a message has on the wire; what is beyond is cut off.
    pub const MAX_MESSAGE: usize = 4096;
}

impl FailureKind {
    const ALL: [Self; 10] = [
        Self::NotFound,
        Self::NotExecutable,
        Self::NoSuchUser,
        Self::WorkingDirectory,
        Self::Denied,
        Self::Exists,
        Self::ConnectionRefused,
        Self::Limit,
        Self::Unsupported,
        Self::Other,
    ];

    pub(crate) fn number(self) -> u8 {
        let position = Self::ALL.iter().position(|&kind| kind == self);
        position.and_then(|index| u8::try_from(index).ok()).unwrap_or(u8::MAX)
    }

    /// An agent that is newer than the host may know more classes.
    pub(crate) fn from_number(number: u8) -> Self {
        Self::ALL.get(usize::from(number)).copied().unwrap_or(Self::Other)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}
