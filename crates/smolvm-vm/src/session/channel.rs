//! [`Channel`]: one conversation with the guest, from its opening request to the final reply.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use smolvm_image::CancelToken;
use smolvm_protocol::{Exit, Failure, ProtocolError, Reply, Request, SendWindow, Stream};

use super::error::SessionError;
use super::inbox::{Inbox, Item};
use super::link::{Connection, Ending};
use super::wait::{is_cancelled, wait_on};

/// The caller's end of a channel. When it is dropped before the final reply, the guest is told to
/// end what it does.
#[derive(Debug)]
pub(super) struct Channel {
    connection: Arc<Connection>,
    number: u32,
    shared: Arc<Shared>,
    /// Ends every wait.
    cancel: Option<CancelToken>,
}

/// What the caller and the receiving thread both have of a channel.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// What is known of a channel.
#[derive(Debug)]
pub(super) struct State {
    opener: Opener,
    pub(super) started: Option<u32>,
    pub(super) stdin: SendWindow,
    pub(super) stdout: Inbox,
    pub(super) stderr: Inbox,
    pub(super) outcome: Option<Outcome>,
    /// The guest was told to end it.
    closed: bool,
    /// Whether there was made room for what is left, before it may have ended and for good.
    room_made: [bool; 2],
}

/// What opened a channel, by the replies that belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opener {
    Exec,
    Put,
    Get,
    Connect,
    /// A request whose only reply is the final one.
    Plain,
}

/// How a channel ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Exited {
        exit: Exit,
        nanos: u64,
    },
    Done,
    Failed(Failure),
    /// The session ended first.
    Lost(Ending),
    /// The caller gave it up.
    GivenUp,
}

/// Why a wait brought nothing.
#[derive(Debug)]
pub(super) enum Interrupted {
    TimedOut,
    /// The caller's token was cancelled.
    Cancelled,
    Ended(Outcome),
    /// As many channels are open as a session can have.
    TooMany,
}

impl Opener {
    pub(super) fn of(request: &Request) -> Self {
        match request {
            Request::Exec(_) => Self::Exec,
            Request::Put(_) => Self::Put,
            Request::Get(_) => Self::Get,
            Request::Connect(_) => Self::Connect,
            _ => Self::Plain,
        }
    }
}

impl Shared {
    pub(super) fn new(opener: Opener) -> Arc<Self> {
        let state = State {
            opener,
            started: None,
            stdin: SendWindow::default(),
            stdout: Inbox::default(),
            stderr: Inbox::default(),
            outcome: None,
            closed: false,
            room_made: [false; 2],
        };
        Arc::new(Self { state: Mutex::new(state), changed: Condvar::new() })
    }

    /// Takes in a reply that takes `cost` bytes of its stream's window. Returns the credit to
    /// grant at once.
    pub(super) fn receive(
        &self,
        reply: Reply,
        cost: usize,
    ) -> Result<Option<(Stream, u32)>, ProtocolError> {
        let credit = self.state().receive(reply, cost)?;
        self.changed.notify_all();
        Ok(credit)
    }

    /// The session has ended.
    pub(super) fn lose(&self, ending: &Ending) {
        self.end(Outcome::Lost(ending.clone()));
    }

    fn end(&self, outcome: Outcome) {
        self.state().outcome.get_or_insert(outcome);
        self.changed.notify_all();
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn receive(
        &mut self,
        reply: Reply,
        cost: usize,
    ) -> Result<Option<(Stream, u32)>, ProtocolError> {
        use Opener::{Connect, Exec, Get, Plain, Put};
        match (self.opener, reply) {
            (Exec | Connect, Reply::Started(process)) if self.started.is_none() => {
                self.started = Some(process);
            }
            (Exec | Get | Connect, Reply::Data(Stream::Stdout, bytes)) => {
                let credit = self.stdout.receive(Item::Data(bytes), cost)?;
                return Ok(credit.map(|credit| (Stream::Stdout, credit)));
            }
            (Exec, Reply::Data(Stream::Stderr, bytes)) => {
                let credit = self.stderr.receive(Item::Data(bytes), cost)?;
                return Ok(credit.map(|credit| (Stream::Stderr, credit)));
            }
            (Get, Reply::Entry(entry)) => {
                let credit = self.stdout.receive(Item::Entry(entry, cost), cost)?;
                return Ok(credit.map(|credit| (Stream::Stdout, credit)));
            }
            (Exec | Get | Connect, Reply::End(Stream::Stdout)) => self.stdout.end()?,
            (Exec, Reply::End(Stream::Stderr)) => self.stderr.end()?,
            (Exec | Put | Connect, Reply::Credit(bytes)) => self.stdin.credit(bytes)?,
            (Exec, Reply::Exited { exit, nanos }) => self.finish(Outcome::Exited { exit, nanos }),
            (Put | Get | Connect | Plain, Reply::Done) => self.finish(Outcome::Done),
            (_, Reply::Failed(failure)) => self.finish(Outcome::Failed(failure)),
            _ => return Err(ProtocolError::Malformed("a reply does not belong to its request")),
        }
        Ok(None)
    }

    fn finish(&mut self, outcome: Outcome) {
        self.outcome.get_or_insert(outcome);
    }
}

impl Channel {
    /// The caller's end of a channel that was opened.
    pub(super) fn new(
        connection: Arc<Connection>,
        number: u32,
        shared: Arc<Shared>,
        cancel: Option<CancelToken>,
    ) -> Self {
        Self { connection, number, shared, cancel }
    }

    /// The token has ended what it was for: what comes later is not cancelled by it.
    pub(super) fn outlive_token(&mut self) {
        self.cancel = None;
    }

    /// Waits until `ready` finds what it looks for. `None`: it is [`late`](Self::late).
    pub(super) fn wait<T>(
        &self,
        deadline: Option<Instant>,
        mut ready: impl FnMut(&mut State) -> Option<T>,
    ) -> Option<T> {
        let mut state = self.shared.state();
        loop {
            if let Some(found) = ready(&mut state) {
                return Some(found);
            }
            state = wait_on(&self.shared.changed, state, deadline, self.cancel.as_ref())?;
        }
    }

    /// Why a wait has ended without what it was for.
    pub(super) fn late(&self) -> Interrupted {
        if is_cancelled(self.cancel.as_ref()) {
            Interrupted::Cancelled
        } else {
            Interrupted::TimedOut
        }
    }

    /// Waits until the command runs or the connection stands; returns the process.
    pub(super) fn wait_started(&self, deadline: Option<Instant>) -> Result<u32, Interrupted> {
        let started = self.wait(deadline, |state| match (state.started, &state.outcome) {
            (Some(process), _) => Some(Ok(process)),
            (None, Some(outcome)) => Some(Err(Interrupted::Ended(outcome.clone()))),
            (None, None) => None,
        });
        started.unwrap_or_else(|| Err(self.late()))
    }

    /// Waits for the final reply, whatever is left unread; `None`: it is [`late`](Self::late).
    pub(super) fn wait_outcome(&self, deadline: Option<Instant>) -> Option<Outcome> {
        self.wait(deadline, |state| state.outcome.clone())
    }

    /// Sends a request that takes its turn.
    pub(super) fn send(
        &self,
        request: &Request,
        deadline: Option<Instant>,
    ) -> Result<(), Interrupted> {
        self.connection.send(self.number, request, deadline, self.cancel.as_ref())
    }

    /// Sends a short request without waiting. Where the session has ended there is nobody to take
    /// it, which the next wait tells.
    pub(super) fn send_now(&self, request: &Request) {
        self.connection.send_now(self.number, request);
    }

    /// Grants credit for what was taken.
    pub(super) fn grant(&self, stream: Stream, credit: Option<u32>) {
        if let Some(credit) = credit {
            self.send_now(&Request::Credit(stream, credit));
        }
    }

    /// Sends a part of `bytes`, at least one, as standard input once the guest takes any; returns
    /// how many it took.
    pub(super) fn write(
        &self,
        bytes: &[u8],
        deadline: Option<Instant>,
    ) -> Result<usize, Interrupted> {
        let reserved = self.wait(deadline, |state| {
            if let Some(outcome) = &state.outcome {
                return Some(Err(Interrupted::Ended(outcome.clone())));
            }
            state.reserve(bytes.len()).map(Ok)
        });
        let count = reserved.unwrap_or_else(|| Err(self.late()))?;
        self.send(&Request::Data(bytes[..count].to_vec()), deadline)?;
        Ok(count)
    }

    /// Sends a request that takes `cost` bytes of the window of standard input, once the guest
    /// takes as many.
    pub(super) fn send_counted(
        &self,
        request: &Request,
        cost: usize,
        deadline: Option<Instant>,
    ) -> Result<(), Interrupted> {
        let reserved = self.wait(deadline, |state| match &state.outcome {
            Some(outcome) => Some(Err(Interrupted::Ended(outcome.clone()))),
            None => state.stdin.sent(cost).is_ok().then_some(Ok(())),
        });
        reserved.unwrap_or_else(|| Err(self.late()))?;
        self.send(request, deadline)
    }

    /// The next piece of a copy, or waits for it. `None`: it has ended, in which way the outcome
    /// tells.
    pub(super) fn next_item(&self, deadline: Option<Instant>) -> Result<Option<Item>, Interrupted> {
        let taken = self.wait(deadline, |state| match state.stdout.take() {
            Some((item, credit)) => Some(Some((item, credit))),
            None => state.outcome.is_some().then_some(None),
        });
        let Some((item, credit)) = taken.ok_or_else(|| self.late())? else {
            return Ok(None);
        };
        self.grant(Stream::Stdout, credit);
        Ok(Some(item))
    }

    /// Reads what there is of a stream of bytes, or waits for it. 0 bytes: it has ended.
    pub(super) fn read(
        &self,
        stream: Stream,
        buffer: &mut [u8],
        deadline: Option<Instant>,
    ) -> Result<usize, Interrupted> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let read = self.wait(deadline, |state| {
            if let Some((count, credit)) = state.inbox(stream).read(buffer) {
                return Some(Ok((count, credit)));
            }
            match &state.outcome {
                Some(lost @ Outcome::Lost(_)) => Some(Err(Interrupted::Ended(lost.clone()))),
                Some(_) => Some(Ok((0, None))),
                None => state.inbox(stream).is_over().then_some(Ok((0, None))),
            }
        });
        let (count, credit) = read.unwrap_or_else(|| Err(self.late()))?;
        self.grant(stream, credit);
        Ok(count)
    }

    /// Nobody reads this stream any more.
    pub(super) fn discard(&self, stream: Stream) {
        let credit = {
            let mut state = self.shared.state();
            state.outcome.is_none().then(|| state.inbox(stream).discard()).flatten()
        };
        self.grant(stream, credit);
    }

    /// Says that no more input comes, unless the guest was told to end all of it.
    pub(super) fn end_input(&self) {
        let is_open = {
            let state = self.shared.state();
            state.outcome.is_none() && !state.closed
        };
        if is_open {
            self.send_now(&Request::End);
        }
    }

    /// Takes what a command has written that may be about to end, read or not: the guest says how it
    /// ended after all of it. Once before its end is certain, and once `for_good`.
    pub(super) fn make_room(&self, for_good: bool) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let credit = {
                let mut state = self.shared.state();
                let is_new = !state.room_made[usize::from(for_good)] && state.outcome.is_none();
                is_new.then(|| state.inbox(stream).make_room()).flatten()
            };
            self.grant(stream, credit);
        }
        self.shared.state().room_made[usize::from(for_good)] = true;
    }

    /// Tells the guest to end what it does, without waiting for it.
    pub(super) fn close(&self) {
        let tell = {
            let mut state = self.shared.state();
            let tell = state.outcome.is_none() && !state.closed;
            state.closed = true;
            tell
        };
        if tell {
            self.send_now(&Request::Close);
        }
    }

    /// Closes the channel, and ends the waiting of all others who use it.
    pub(super) fn give_up(&self) {
        self.close();
        // What still comes until the final reply is for nobody.
        self.discard(Stream::Stdout);
        self.discard(Stream::Stderr);
        self.shared.end(Outcome::GivenUp);
    }
}

impl State {
    /// How many of `wanted` bytes may be sent as standard input now, at most a frame's worth;
    /// counts them as sent.
    pub(super) fn reserve(&mut self, wanted: usize) -> Option<usize> {
        const CHUNK: usize = 32 * 1024;
        let count = wanted.min(self.stdin.available()).min(CHUNK);
        (count > 0 && self.stdin.sent(count).is_ok()).then_some(count)
    }

    pub(super) fn inbox(&mut self, stream: Stream) -> &mut Inbox {
        if stream == Stream::Stderr { &mut self.stderr } else { &mut self.stdout }
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.give_up();
    }
}

impl Interrupted {
    /// What it means for a caller who knows no more than what he asked for.
    pub(super) fn into_error(self, request: &str, waited: std::time::Duration) -> SessionError {
        match self {
            Self::TimedOut => SessionError::NotAnswering { request: request.to_owned(), waited },
            Self::Cancelled => SessionError::Cancelled,
            Self::Ended(outcome) => outcome.into_error(request),
            Self::TooMany => SessionError::TooManyAtOnce,
        }
    }
}

impl Outcome {
    /// What it means that something ended this way although it should not have.
    pub(super) fn into_error(self, request: &str) -> SessionError {
        match self {
            Self::Failed(failure) => SessionError::from_failure(request, &failure),
            Self::Lost(ending) => ending.into(),
            Self::Exited { .. } | Self::Done => {
                ProtocolError::Malformed("the final reply came too early").into()
            }
            Self::GivenUp => SessionError::Disconnected,
        }
    }
}
