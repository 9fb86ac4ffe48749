//! [`Request`]: what the host says.

use alloc::vec::Vec;

use crate::command::{Exec, Stream, WindowSize};
use crate::copy::Entry;
use crate::error::ProtocolError;
use crate::frame::{self, Frame};
use crate::guest::{Network, PowerOff};
use crate::wire::{Reader, Write as _};

/// What the host says. The first ten open a channel, the others belong to an open one.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Request {
    /// Run a command. The answer: `Started`, then `Data` and `End` of its output, last `Exited`;
    /// or `Failed`. Data that is not taken by a command that has ended is dropped.
    Exec(Exec),
    /// Copy into the guest, to this path: entries and their data follow, then the end of
    /// [`Stream::Stdin`]. The answer: `Credit`, last `Done` or `Failed`.
    Put(Vec<u8>),
    /// Copy this path out of the guest. The answer: entries and their data, the end of
    /// [`Stream::Stdout`], last `Done` or `Failed`.
    Get(Vec<u8>),
    /// Connect to this TCP port of the guest. The answer: `Started`, data both ways, last `Done`
    /// when both directions have ended; or `Failed`.
    Connect(u16),
    /// Set the clock to this many nanoseconds since 1970. The answer: `Done` or `Failed`.
    SetTime(u64),
    /// Set the network up. The answer: `Done` or `Failed`.
    SetNetwork(Network),
    /// End the guest. The answer, if there is one: `Done`, before it happens.
    PowerOff(PowerOff),
    /// Wait for the rest of the guest: until the image's init says that it has started what it
    /// starts. The answer: `Done` or `Failed`.
    Settle,
    /// Nothing. The answer: `Done`.
    Ping,
    /// Make new random numbers from these bytes, which nobody else knows, and from what was there:
    /// the guest goes on from a snapshot, as others may. The answer: `Done` or `Failed`.
    Reseed(Vec<u8>),

    /// A part of [`Stream::Stdin`].
    Data(Vec<u8>),
    /// [`Stream::Stdin`] has ended.
    End,
    /// This many bytes of a stream of the guest have been used up: as many more may be sent.
    Credit(Stream, u32),
    /// The next file of a `Put`.
    Entry(Entry),
    /// Send this signal to the command and all of its process group.
    Signal(u8),
    /// The command's terminal has another size now.
    Resize(WindowSize),
    /// Nobody waits for the answer any more: end the command and all of its process group (by
    /// `SIGKILL`), or whatever else it is. The final reply comes all the same.
    Close,
}

/// The numbers of the requests on the wire.
mod kind {
    pub(super) const EXEC: u8 = 1;
    pub(super) const PUT: u8 = 2;
    pub(super) const GET: u8 = 3;
    pub(super) const CONNECT: u8 = 4;
    pub(super) const SET_TIME: u8 = 5;
    pub(super) const SET_NETWORK: u8 = 6;
    pub(super) const POWER_OFF: u8 = 7;
    pub(super) const SETTLE: u8 = 8;
    pub(super) const PING: u8 = 9;
    pub(super) const RESEED: u8 = 10;
    pub(super) const DATA: u8 = 16;
    pub(super) const END: u8 = 17;
    pub(super) const CREDIT: u8 = 18;
    pub(super) const ENTRY: u8 = 19;
    pub(super) const SIGNAL: u8 = 20;
    pub(super) const RESIZE: u8 = 21;
    pub(super) const CLOSE: u8 = 22;
}

impl Request {
    /// Whether it opens a channel.
    #[must_use]
    pub fn is_opener(&self) -> bool {
        self.kind() <= kind::RESEED
    }

    /// Whether a frame that the host sent opens a channel, without decoding it.
    #[must_use]
    pub fn frame_is_opener(frame: &Frame<'_>) -> bool {
        (kind::EXEC..=kind::RESEED).contains(&frame.kind)
    }

    /// Appends the request to `wire` as one frame.
    pub fn encode(&self, channel: u32, wire: &mut Vec<u8>) {
        frame::encode_with(channel, self.kind(), wire, |wire| self.write(wire));
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Exec(_) => kind::EXEC,
            Self::Put(_) => kind::PUT,
            Self::Get(_) => kind::GET,
            Self::Connect(_) => kind::CONNECT,
            Self::SetTime(_) => kind::SET_TIME,
            Self::SetNetwork(_) => kind::SET_NETWORK,
            Self::PowerOff(_) => kind::POWER_OFF,
            Self::Settle => kind::SETTLE,
            Self::Ping => kind::PING,
            Self::Reseed(_) => kind::RESEED,
            Self::Data(_) => kind::DATA,
            Self::End => kind::END,
            Self::Credit(..) => kind::CREDIT,
            Self::Entry(_) => kind::ENTRY,
            Self::Signal(_) => kind::SIGNAL,
            Self::Resize(_) => kind::RESIZE,
            Self::Close => kind::CLOSE,
        }
    }

    fn write(&self, wire: &mut Vec<u8>) {
        match self {
            Self::Exec(exec) => exec.write(wire),
            Self::Put(bytes) | Self::Get(bytes) | Self::Data(bytes) | Self::Reseed(bytes) => {
                wire.extend_from_slice(bytes);
            }
            Self::Connect(port) => wire.u16(*port),
            Self::SetTime(nanos) => wire.u64(*nanos),
            Self::SetNetwork(network) => network.write(wire),
            Self::PowerOff(how) => wire.u8(how.number()),
            Self::Settle | Self::Ping | Self::End | Self::Close => {}
            Self::Credit(stream, bytes) => {
                wire.u8(stream.number());
                wire.u32(*bytes);
            }
            Self::Entry(entry) => entry.write(wire),
            Self::Signal(signal) => wire.u8(*signal),
            Self::Resize(size) => size.write(wire),
        }
    }

    /// Reads a request from a frame that the host sent.
    ///
    /// # Errors
    ///
    /// [`ProtocolError::UnknownKind`] or [`ProtocolError::Malformed`].
    pub fn decode(frame: &Frame<'_>) -> Result<Self, ProtocolError> {
        let mut reader = Reader::new(frame.payload);
        let request = match frame.kind {
            kind::EXEC => Self::Exec(Exec::read(&mut reader)?),
            kind::PUT => return Ok(Self::Put(reader.rest().to_vec())),
            kind::GET => return Ok(Self::Get(reader.rest().to_vec())),
            kind::CONNECT => Self::Connect(reader.u16()?),
            kind::SET_TIME => Self::SetTime(reader.u64()?),
            kind::SET_NETWORK => Self::SetNetwork(Network::read(&mut reader)?),
            kind::POWER_OFF => Self::PowerOff(PowerOff::read(&mut reader)?),
            kind::SETTLE => Self::Settle,
            kind::PING => Self::Ping,
            kind::RESEED => return Ok(Self::Reseed(reader.rest().to_vec())),
            kind::DATA => return Ok(Self::Data(reader.rest().to_vec())),
            kind::END => Self::End,
            kind::CREDIT => Self::Credit(Stream::read(&mut reader)?, reader.u32()?),
            kind::ENTRY => Self::Entry(Entry::read(&mut reader)?),
            kind::SIGNAL => Self::Signal(reader.u8()?),
            kind::RESIZE => Self::Resize(WindowSize::read(&mut reader)?),
            kind::CLOSE => Self::Close,
            unknown => return Err(ProtocolError::UnknownKind(unknown)),
        };
        reader.end()?;
        Ok(request)
    }
}
