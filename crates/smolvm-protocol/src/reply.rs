//! [`Reply`]: what the guest says.

use alloc::string::String;
use alloc::vec::Vec;

use crate::command::{Exit, Stream};
use crate::copy::Entry;
use crate::error::{Failure, FailureKind, ProtocolError};
use crate::frame::{self, Frame};
use crate::guest::Welcome;
use crate::wire::{Reader, Write as _};

/// What the guest says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reply {
    /// The first of a session, on [`SESSION_CHANNEL`](crate::SESSION_CHANNEL).
    Welcome(Welcome),
    /// The command runs, as this process; or the connection stands.
    Started(u32),
    /// A part of a stream.
    Data(Stream, Vec<u8>),
    /// A stream has ended.
    End(Stream),
    /// This many bytes of [`Stream::Stdin`] have been used up: as many more may be sent.
    Credit(u32),
    /// The next file of a `Get`.
    Entry(Entry),
    /// Final: the command has ended. All that it wrote itself was sent before.
    Exited {
        /// How it ended.
        exit: Exit,
        /// From the taking up of the request to the command's end, in nanoseconds, by the guest's
        /// clock.
        nanos: u64,
    },
    /// Final: done.
    Done,
    /// Final: it could not be done.
    Failed(Failure),
}

/// The numbers of the replies on the wire.
mod kind {
    pub(super) const WELCOME: u8 = 128;
    pub(super) const STARTED: u8 = 129;
    pub(super) const DATA: u8 = 144;
    pub(super) const END: u8 = 145;
    pub(super) const CREDIT: u8 = 146;
    pub(super) const ENTRY: u8 = 147;
    pub(super) const EXITED: u8 = 160;
    pub(super) const DONE: u8 = 161;
    pub(super) const FAILED: u8 = 162;
}

impl Reply {
    /// Whether it is the last one on its channel.
    #[must_use]
    pub fn is_final(&self) -> bool {
        self.kind() >= kind::EXITED
    }

    /// Appends the reply to `wire` as one frame.
    pub fn encode(&self, channel: u32, wire: &mut Vec<u8>) {
        frame::encode_with(channel, self.kind(), wire, |wire| self.write(wire));
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Welcome(_) => kind::WELCOME,
            Self::Started(_) => kind::STARTED,
            Self::Data(..) => kind::DATA,
            Self::End(_) => kind::END,
            Self::Credit(_) => kind::CREDIT,
            Self::Entry(_) => kind::ENTRY,
            Self::Exited { .. } => kind::EXITED,
            Self::Done => kind::DONE,
            Self::Failed(_) => kind::FAILED,
        }
    }

    fn write(&self, wire: &mut Vec<u8>) {
        match self {
            Self::Welcome(welcome) => welcome.write(wire),
            Self::Started(process) => wire.u32(*process),
            Self::Data(stream, bytes) => {
                wire.u8(stream.number());
                wire.extend_from_slice(bytes);
            }
            Self::End(stream) => wire.u8(stream.number()),
            Self::Credit(bytes) => wire.u32(*bytes),
            Self::Entry(entry) => entry.write(wire),
            Self::Exited { exit, nanos } => {
                exit.write(wire);
                wire.u64(*nanos);
            }
            Self::Done => {}
            Self::Failed(failure) => {
                wire.u8(failure.kind.number());
                let message = failure.message.as_bytes();
                wire.extend_from_slice(&message[..message.len().min(Failure::MAX_MESSAGE)]);
            }
        }
    }

    /// Reads a reply from a frame that the guest sent.
    ///
    /// # Errors
    ///
    /// [`ProtocolError::UnknownKind`] or [`ProtocolError::Malformed`].
    pub fn decode(frame: &Frame<'_>) -> Result<Self, ProtocolError> {
        let mut reader = Reader::new(frame.payload);
        let reply = match frame.kind {
            kind::WELCOME => Self::Welcome(Welcome::read(&mut reader)?),
            kind::STARTED => Self::Started(reader.u32()?),
            kind::DATA => {
                return Ok(Self::Data(Stream::read(&mut reader)?, reader.rest().to_vec()));
            }
            kind::END => Self::End(Stream::read(&mut reader)?),
            kind::CREDIT => Self::Credit(reader.u32()?),
            kind::ENTRY => Self::Entry(Entry::read(&mut reader)?),
            kind::EXITED => Self::Exited { exit: Exit::read(&mut reader)?, nanos: reader.u64()? },
            kind::DONE => Self::Done,
            kind::FAILED => {
                let kind = FailureKind::from_number(reader.u8()?);
                let message = reader.rest();
                let message = &message[..message.len().min(Failure::MAX_MESSAGE)];
                // What a guest says may be anything, and is shown to people.
                let message = String::from_utf8_lossy(message).into_owned();
                return Ok(Self::Failed(Failure { kind, message }));
            }
            unknown => return Err(ProtocolError::UnknownKind(unknown)),
        };
        reader.end()?;
        Ok(reply)
    }

    /// How many bytes of which stream of the guest a frame takes of its [window](crate::WINDOW).
    ///
    /// # Errors
    ///
    /// [`ProtocolError::Malformed`] where it does not say which stream it belongs to.
    pub fn frame_cost(frame: &Frame<'_>) -> Result<Option<(Stream, usize)>, ProtocolError> {
        match frame.kind {
            kind::DATA => {
                let mut reader = Reader::new(frame.payload);
                let stream = Stream::read(&mut reader)?;
                Ok(Some((stream, reader.rest().len())))
            }
            kind::ENTRY => Ok(Some((Stream::Stdout, frame.payload.len()))),
            _ => Ok(None),
        }
    }

    /// Whether a frame that the guest sent is the last one on its channel, without decoding it.
    #[must_use]
    pub fn frame_is_final(frame: &Frame<'_>) -> bool {
        (kind::EXITED..=kind::FAILED).contains(&frame.kind)
    }
}
