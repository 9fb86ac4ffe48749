//! [`Connection`]: what all channels of a session share, and the thread that hands every reply to
//! the channel that it belongs to.

use std::collections::HashMap;
use std::ops::Deref;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use std::{io, thread};

use smolvm_image::CancelToken;
use smolvm_protocol::{
    Decoder, Frame, MAX_CHANNELS, ProtocolError, Reply, Request, SESSION_CHANNEL,
};

use super::channel::{Channel, Interrupted, Opener, Outcome, Shared};
use super::error::SessionError;
use super::outgoing::{NotSent, Outgoing};

/// The connection to the agent, held by the session and all of its channels. It ends with the last
/// of them.
#[derive(Debug)]
pub(super) struct Connection {
    link: Arc<Link>,
}

/// What the holders of a [`Connection`] and the receiving thread both have of it.
#[derive(Debug)]
pub(super) struct Link {
    outgoing: Outgoing,
    table: Mutex<Table>,
}

/// The channels that are open.
#[derive(Debug)]
struct Table {
    open: HashMap<u32, Arc<Shared>>,
    /// The number to try next. Numbers are not used again before all others were, so that what is
    /// said late to a channel that has ended never meets another one.
    next: u32,
    ending: Option<Ending>,
}

/// Why a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ending {
    /// The other side has gone, or we have.
    Disconnected,
    /// The guest broke the protocol.
    Protocol(ProtocolError),
    /// The guest does not read.
    NotReading,
}

impl Connection {
    /// Starts the receiving thread on a connection that is past its welcome; `decoder` holds what
    /// came after that.
    pub(super) fn start(socket: UnixStream, decoder: Decoder) -> io::Result<Arc<Self>> {
        let table = Table { open: HashMap::new(), next: SESSION_CHANNEL + 1, ending: None };
        let link = Arc::new(Link { outgoing: Outgoing::new(socket)?, table: Mutex::new(table) });
        let receiver = Arc::clone(&link);
        thread::Builder::new().name("smolvm-session".to_owned()).spawn(move || {
            let ending = receiver.serve(decoder);
            receiver.end(ending);
        })?;
        Ok(Arc::new(Self { link }))
    }

    /// Opens a channel by a request.
    pub(super) fn open(
        self: &Arc<Self>,
        request: &Request,
        deadline: Option<Instant>,
        cancel: Option<&CancelToken>,
    ) -> Result<Channel, Interrupted> {
        let shared = Shared::new(Opener::of(request));
        let number = self.table().insert(Arc::clone(&shared))?;
        let mut frame = Vec::new();
        request.encode(number, &mut frame);
        if let Err(not_sent) = self.outgoing.send(&frame, deadline, cancel) {
            self.table().open.remove(&number);
            return Err(self.interrupted(not_sent));
        }
        Ok(Channel::new(Arc::clone(self), number, shared, cancel.cloned()))
    }
}

impl Deref for Connection {
    type Target = Link;

    fn deref(&self) -> &Link {
        &self.link
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.link.end(Ending::Disconnected);
    }
}

impl Link {
    /// Sends a request that takes its turn.
    pub(super) fn send(
        &self,
        channel: u32,
        request: &Request,
        deadline: Option<Instant>,
        cancel: Option<&CancelToken>,
    ) -> Result<(), Interrupted> {
        let mut frame = Vec::new();
        request.encode(channel, &mut frame);
        self.outgoing.send(&frame, deadline, cancel).map_err(|not_sent| self.interrupted(not_sent))
    }

    /// Sends a short request without waiting; a guest that has left too many unread loses the
    /// session.
    pub(super) fn send_now(&self, channel: u32, request: &Request) {
        let mut frame = Vec::new();
        request.encode(channel, &mut frame);
        if self.outgoing.send_now(&frame) == Err(NotSent::Overflow) {
            self.end(Ending::NotReading);
        }
    }

    /// Ends the session for all; what came first counts.
    pub(super) fn end(&self, ending: Ending) {
        let (open, ending) = {
            let mut table = self.table();
            let ending = table.ending.get_or_insert(ending).clone();
            (std::mem::take(&mut table.open), ending)
        };
        self.outgoing.close();
        for shared in open.into_values() {
            shared.lose(&ending);
        }
    }

    /// Whether the session has not ended.
    pub(super) fn is_open(&self) -> bool {
        self.table().ending.is_none()
    }

    fn interrupted(&self, not_sent: NotSent) -> Interrupted {
        match not_sent {
            NotSent::TimedOut => Interrupted::TimedOut,
            NotSent::Cancelled => Interrupted::Cancelled,
            NotSent::Closed | NotSent::Overflow => {
                let ending = self.table().ending.clone();
                Interrupted::Ended(Outcome::Lost(ending.unwrap_or(Ending::Disconnected)))
            }
        }
    }

    /// Receives until there is nothing more to receive.
    fn serve(&self, mut decoder: Decoder) -> Ending {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            if let Err(broken) = self.dispatch_all(&mut decoder) {
                return Ending::Protocol(broken);
            }
            let Ok(ready) = self.outgoing.wait() else {
                return Ending::Disconnected;
            };
            if ready.writable && self.outgoing.flush().is_err() {
                return Ending::Disconnected;
            }
            if ready.readable {
                match self.outgoing.receive(&mut buffer) {
                    Ok(Some(0)) | Err(_) => return Ending::Disconnected,
                    Ok(Some(count)) => decoder.push(&buffer[..count]),
                    Ok(None) => {}
                }
            }
        }
    }

    fn dispatch_all(&self, decoder: &mut Decoder) -> Result<(), ProtocolError> {
        while let Some(frame) = decoder.next_frame()? {
            self.dispatch(&frame)?;
        }
        Ok(())
    }

    fn dispatch(&self, frame: &Frame<'_>) -> Result<(), ProtocolError> {
        let cost = Reply::frame_cost(frame)?.map_or(0, |(_, cost)| cost);
        let reply = Reply::decode(frame)?;
        let is_final = reply.is_final();
        let shared = self.table().open.get(&frame.channel).cloned();
        let shared = shared
            .ok_or(ProtocolError::Malformed("a reply comes on a channel that is not open"))?;
        let credit = shared.receive(reply, cost)?;
        if is_final {
            // Not before its end is known: until then it ends with the session.
            self.table().open.remove(&frame.channel);
        }
        if let Some((stream, credit)) = credit {
            self.send_now(frame.channel, &Request::Credit(stream, credit));
        }
        Ok(())
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn insert(&mut self, shared: Arc<Shared>) -> Result<u32, Interrupted> {
        if let Some(ending) = &self.ending {
            return Err(Interrupted::Ended(Outcome::Lost(ending.clone())));
        }
        if self.open.len() >= MAX_CHANNELS {
            return Err(Interrupted::TooMany);
        }
        while self.next == SESSION_CHANNEL || self.open.contains_key(&self.next) {
            self.next = self.next.wrapping_add(1);
        }
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        self.open.insert(number, shared);
        Ok(number)
    }
}

impl From<Ending> for SessionError {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Disconnected => Self::Disconnected,
            Ending::Protocol(broken) => Self::Protocol(broken),
            Ending::NotReading => Self::NotReading,
        }
    }
}

impl From<ProtocolError> for SessionError {
    fn from(broken: ProtocolError) -> Self {
        Self::Protocol(broken)
    }
}
