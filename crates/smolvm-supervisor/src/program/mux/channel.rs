//! The channels of the session with the guest: whose they are, and what may be sent on them.

use std::collections::HashMap;

use smolvm_protocol::{
    Frame, MAX_CHANNELS, ProtocolError, Reply, Request, SESSION_CHANNEL, SendWindow, Stream, WINDOW,
};

/// The number of a client, in the order in which they came.
pub(super) type ClientId = u64;

/// A channel that is open in the guest.
#[derive(Default)]
pub(super) struct Channel {
    /// Whose it is, and its number there. `None`: the client has gone, and the guest is still to
    /// say its last word.
    pub(super) client: Option<(ClientId, u32)>,
    is_started: bool,
    /// What the client may still send.
    stdin: SendWindow,
    /// What the guest may still send; `None` when the stream has ended.
    stdout: Option<SendWindow>,
    stderr: Option<SendWindow>,
}

/// The channels by their numbers in the guest.
#[derive(Default)]
pub(super) struct Channels {
    open: HashMap<u32, Channel>,
    last: u32,
}

/// What becomes of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Its client gets it.
    Pass,
    /// It says nothing.
    Drop,
}

impl Channels {
    /// Opens a channel for a client. `None` where too many are open.
    pub(super) fn open(&mut self, client: ClientId, number: u32) -> Option<u32> {
        if self.open.len() >= MAX_CHANNELS {
            return None;
        }
        loop {
            self.last = self.last.wrapping_add(1);
            if self.last != SESSION_CHANNEL && !self.open.contains_key(&self.last) {
                break;
            }
        }
        self.open.insert(
            self.last,
            Channel {
                client: Some((client, number)),
                stdout: Some(SendWindow::default()),
                stderr: Some(SendWindow::default()),
                ..Channel::default()
            },
        );
        Some(self.last)
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut Channel> {
        self.open.get_mut(&number)
    }

    pub(super) fn close(&mut self, number: u32) {
        self.open.remove(&number);
    }
}

impl Channel {
    /// Checks and counts what the client sends.
    ///
    /// # Errors
    ///
    /// [`ProtocolError::Overrun`].
    pub(super) fn count_request(
        &mut self,
        request: &Request,
        frame: &Frame<'_>,
    ) -> Result<(), ProtocolError> {
        match request {
            Request::Data(_) | Request::Entry(_) => self.stdin.sent(frame.payload.len()),
            Request::Credit(stream, bytes) => match self.window(*stream)? {
                Some(window) => window.credit(*bytes),
                // It has ended in the meantime.
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// Checks and counts what the guest sends.
    ///
    /// # Errors
    ///
    /// Whatever it is that no agent does.
    pub(super) fn count_reply(
        &mut self,
        reply: &Reply,
        frame: &Frame<'_>,
    ) -> Result<Verdict, ProtocolError> {
        if let Some((stream, cost)) = Reply::frame_cost(frame)? {
            let window = self.window(stream)?.as_mut();
            window.ok_or(ProtocolError::Malformed("a stream goes on after its end"))?.sent(cost)?;
            return Ok(if cost == 0 { Verdict::Drop } else { Verdict::Pass });
        }
        match reply {
            Reply::Welcome(_) => Err(ProtocolError::Malformed("there is one welcome a session")),
            Reply::Started(_) if self.is_started => {
                Err(ProtocolError::Malformed("a command starts once"))
            }
            Reply::Started(_) => {
                self.is_started = true;
                Ok(Verdict::Pass)
            }
            Reply::End(stream) => match self.window(*stream)?.take() {
                Some(_) => Ok(Verdict::Pass),
                None => Err(ProtocolError::Malformed("a stream ends twice")),
            },
            Reply::Credit(0) => Ok(Verdict::Drop),
            Reply::Credit(bytes) => self.stdin.credit(*bytes).map(|()| Verdict::Pass),
            _ => Ok(Verdict::Pass),
        }
    }

    /// For a channel whose client has gone: the credit to give the guest, so that it does not wait
    /// for anybody before its last word.
    pub(super) fn replenish(&mut self, least: u32) -> impl Iterator<Item = Request> {
        let streams = [(Stream::Stdout, &mut self.stdout), (Stream::Stderr, &mut self.stderr)];
        streams.into_iter().filter_map(move |(stream, window)| {
            let window = window.as_mut()?;
            let available = u32::try_from(window.available()).unwrap_or(WINDOW);
            let used = WINDOW.saturating_sub(available);
            if used < least {
                return None;
            }
            window.credit(used).ok()?;
            Some(Request::Credit(stream, used))
        })
    }

    /// What the guest may still send on a stream of its own.
    fn window(&mut self, stream: Stream) -> Result<&mut Option<SendWindow>, ProtocolError> {
        match stream {
            Stream::Stdout => Ok(&mut self.stdout),
            Stream::Stderr => Ok(&mut self.stderr),
            Stream::Stdin => Err(ProtocolError::Malformed("standard input comes from the host")),
        }
    }
}
