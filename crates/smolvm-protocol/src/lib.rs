//! What the host and the agent in the guest say to each other.
//!
//! A session is a byte stream both ways: a virtio-serial port, a vsock connection, or the socket
//! of the supervisor. It begins with a [`Preamble`] from each side; then come [frames](Frame),
//! each with the number of a *channel*. The host opens a channel with a request that is an
//! [opener](Request::is_opener), such as [`Request::Exec`]; the guest answers on the same channel,
//! last of all with a [final](Reply::is_final) reply. Then the number is free again. Any number of
//! channels (up to [`MAX_CHANNELS`]) are open at once. The host of a guest that goes on from a
//! snapshot says a [`Succession`] before its preamble.
//!
//! What is streamed (standard input and output, file contents) is sent only as far as the receiver
//! has granted [credit](Request::Credit), beginning with [`WINDOW`] bytes a stream, so that neither
//! side ever holds more than that of a stream that nobody reads, and a slow one does not stop
//! the others.
//!
//! Nothing here trusts the other side: every length is bounded before memory is taken for it, and
//! no input panics.
//!
//! ```
//! use smolvm_protocol::{Decoder, Exec, Program, Request};
//!
//! let exec = Exec::new(Program::Shell(b"echo hello".to_vec()));
//! let mut wire = Vec::new();
//! Request::Exec(exec.clone()).encode(7, &mut wire);
//!
//! let mut decoder = Decoder::default();
//! decoder.push(&wire);
//! let frame = decoder.next_frame()?.ok_or("the frame is whole")?;
//! assert_eq!(frame.channel, 7);
//! assert_eq!(Request::decode(&frame)?, Request::Exec(exec));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![no_std]

extern crate alloc;

mod command;
mod copy;
mod error;
mod frame;
mod guest;
mod preamble;
mod reply;
mod request;
mod succession;
mod window;
mod wire;

pub use command::{Exec, Exit, Program, Stream, WindowSize};
pub use copy::{Entry, EntryKind, EntryPath};
pub use error::{Failure, FailureKind, ProtocolError};
pub use frame::{Decoder, Frame, HEADER, MAX_PAYLOAD};
pub use guest::{Network, PowerOff, Welcome};
pub use preamble::{Nonce, Preamble, Scanner, Side};
pub use reply::Reply;
pub use request::Request;
pub use succession::{Heard, Heir, Succession};
pub use window::{MAX_CHANNELS, ReceiveWindow, SendWindow, WINDOW};

/// The version of this protocol. Both sides say theirs in the [`Preamble`]; the lower one is
/// spoken.
pub const VERSION: u16 = 1;

/// The name of the virtio-serial port that the agent serves.
pub const PORT_NAME: &str = "smolvm.agent";

/// The vsock port that the agent listens on, where the guest has vsock.
pub const VSOCK_PORT: u32 = 1024;

/// The channel of replies that belong to no request: [`Reply::Welcome`].
pub const SESSION_CHANNEL: u32 = 0;
