//! [`Session`]: running commands, copying files and reaching ports in a guest, over the socket of
//! its supervisor.
//!
//! What is said there is [`smolvm_protocol`]'s. The guest is not trusted: whatever it sends, it can
//! end the session, but not crash the host, keep a caller beyond his deadline, take memory without
//! bound, or have anything written outside of where a copy belongs.

mod channel;
mod command;
mod copy;
mod error;
mod forward;
mod guest;
mod guest_text;
mod handshake;
mod inbox;
mod link;
mod outcome;
mod outgoing;
mod process;
mod run;
#[cfg(test)]
mod tests;
mod wait;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use smolvm_image::CancelToken;
use smolvm_protocol::Request;
pub use smolvm_protocol::{FailureKind, Network, PowerOff, Welcome, WindowSize};

pub use command::Command;
pub use copy::CopyLimits;
pub use error::SessionError;
pub use forward::Forward;
pub use guest_text::GuestText;
pub use outcome::{CommandResult, ExitStatus};
pub use process::{Process, ProcessOutput, ProcessStdin};

use channel::{Channel, Interrupted};
use handshake::Welcomed;
use link::Connection;

/// A connection to the agent of a running VM. Clones are the same session; it ends with the last
/// of them and of the processes and forwarded ports that came from it.
///
/// All calls can be made from many threads at once.
#[derive(Debug, Clone)]
pub struct Session {
    connection: Arc<Connection>,
    welcome: Arc<Welcome>,
    /// Ends the calls of this clone.
    cancel: Option<CancelToken>,
}

impl Session {
    /// Connects to the supervisor's `socket`, and waits until the guest's agent is ready.
    ///
    /// # Errors
    ///
    /// [`SessionError::Connect`] where nobody listens there, [`SessionError::NotReady`] once the
    /// deadline has passed, [`SessionError::Disconnected`] where the VM ended first, or
    /// [`SessionError::Protocol`].
    pub fn connect(socket: &Path, deadline: Instant) -> Result<Self, SessionError> {
        Self::connect_unless(socket, deadline, &CancelToken::new())
    }

    /// As [`connect`](Self::connect), and [`SessionError::Cancelled`] once the token is.
    pub(crate) fn connect_unless(
        socket: &Path,
        deadline: Instant,
        cancel: &CancelToken,
    ) -> Result<Self, SessionError> {
        let Welcomed { socket, welcome, decoder } =
            handshake::connect_to(socket, deadline, cancel)?;
        let connection = Connection::start(socket, decoder)
            .map_err(|source| SessionError::Host { action: "start a session's thread", source })?;
        Ok(Self { connection, welcome: Arc::new(welcome), cancel: None })
    }

    /// The same session, whose calls end with [`SessionError::Cancelled`] once the token is
    /// cancelled: a command is killed, a copy stopped. What was started by then stays.
    #[must_use]
    pub fn cancelled_by(&self, cancel: &CancelToken) -> Self {
        Self { cancel: Some(cancel.clone()), ..self.clone() }
    }

    /// What the agent said of itself and its guest.
    #[must_use]
    pub fn welcome(&self) -> &Welcome {
        &self.welcome
    }

    /// Whether the session stands. Where it does not, every call fails.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.connection.is_open()
    }

    /// Opens a channel by a request.
    fn open(&self, request: &Request, deadline: Option<Instant>) -> Result<Channel, Interrupted> {
        self.connection.open(request, deadline, self.cancel.as_ref())
    }
}
