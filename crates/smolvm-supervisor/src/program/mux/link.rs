//! [`Link`]: how it stands with the guest, and the way to it.

use std::fs;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use smolvm_protocol::Nonce;

use super::dial::Dial;
use super::guest::Guest;
use crate::state::Agent;

/// The channel to the guest: there, still to be reached, or lost for good.
pub(super) struct Link {
    /// `None` when it is not reached yet, nothing more can be believed of it, or it has closed the
    /// channel.
    pub(super) guest: Option<Guest>,
    /// How it is to be reached, as long as it is not.
    dial: Option<Dial>,
    /// Where the VMM leads to its vsock, if that is the way.
    vsock: Option<Vsock>,
    agent: Agent,
}

/// A way to the guest on which every connection ends when a snapshot of it is made.
struct Vsock {
    socket: PathBuf,
    /// The file that holds something while a snapshot is made, or the guest is paused.
    paused: PathBuf,
}

impl Link {
    /// A channel that is there, in place of the session whose nonce is that of `succeeds`.
    pub(super) fn over(channel: UnixStream, succeeds: Option<Nonce>) -> io::Result<Self> {
        let guest = Some(Guest::new(channel, succeeds)?);
        Ok(Self { guest, dial: None, vsock: None, agent: Agent::Awaited })
    }

    /// One to the guest's vsock, still to be made.
    pub(super) fn over_vsock(socket: &Path, paused: PathBuf) -> Self {
        let vsock = Vsock { socket: socket.to_owned(), paused };
        let dial = Some(Dial::new(socket));
        Self { guest: None, dial, vsock: Some(vsock), agent: Agent::Awaited }
    }

    /// How it stands with the agent.
    pub(super) fn agent(&self) -> &Agent {
        &self.agent
    }

    /// The nonce of the session with the agent, once that answers.
    pub(super) fn nonce(&self) -> Option<Nonce> {
        self.guest.as_ref().filter(|guest| guest.welcome().is_some()).map(|guest| guest.nonce)
    }

    /// After what time to dial again, if that is to be done.
    pub(super) fn dials_again(&self) -> Option<Duration> {
        self.dial.as_ref().and_then(Dial::patience)
    }

    /// The attempt to reach the guest that is waited for.
    pub(super) fn awaited(&self) -> Option<&UnixStream> {
        self.dial.as_ref().and_then(Dial::awaited)
    }

    /// Tries to reach the guest, where it is not reached yet.
    pub(super) fn dial(&mut self) -> io::Result<()> {
        let Some(channel) = self.dial.as_mut().and_then(Dial::proceed) else { return Ok(()) };
        self.dial = None;
        // Whoever was connected before a snapshot was cut off by it.
        self.guest = Some(Guest::new(channel, None)?);
        Ok(())
    }

    /// Whether the agent answers now, and did not before.
    pub(super) fn has_begun(&mut self) -> bool {
        let begins = self.agent == Agent::Awaited && self.nonce().is_some();
        if begins {
            self.agent = Agent::Ready;
        }
        begins
    }

    /// The channel has ended. Whether that is because a snapshot is made: then the guest is reached
    /// anew.
    pub(super) fn renew(&mut self) -> bool {
        let Some(vsock) = self.vsock.as_ref().filter(|vsock| vsock.is_paused()) else {
            return false;
        };
        self.guest = None;
        self.agent = Agent::Awaited;
        self.dial = Some(Dial::new(&vsock.socket));
        true
    }

    /// There is nothing more to be heard of the guest.
    pub(super) fn lose(&mut self, why: String) {
        self.guest = None;
        self.agent = Agent::Lost(why);
    }
}

impl Vsock {
    fn is_paused(&self) -> bool {
        fs::metadata(&self.paused).is_ok_and(|metadata| metadata.len() > 0)
    }
}
