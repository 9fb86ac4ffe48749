//! [`Session`]: one host on one byte stream, from its preamble on.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Read as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::process::ExitStatus;
use std::time::Instant;

use smolvm_protocol::{
    Decoder, FailureKind, Heard, Heir, MAX_CHANNELS, Preamble, ProtocolError, Reply, Request,
    SESSION_CHANNEL, Scanner, Side, Stream, Welcome,
};

use super::Guest;
use super::channel::{Channel, Flow, Replies};
use super::failure::failed;
use super::opener::{Shared, opened};
use super::outbox::Outbox;
use crate::sys::clock;
use crate::sys::poll::Events;
use crate::sys::process::ProcessGroup;

/// A byte stream to a host.
pub(super) struct Session {
    host: File,
    input: Input,
    outbox: Outbox,
    channels: BTreeMap<u32, Box<dyn Channel>>,
}

/// How far the host has come.
enum Input {
    /// Its preamble has not come yet.
    Preamble(Scanner),
    /// Requests come; or another host, once the guest goes on from a snapshot.
    Requests(Decoder, Heir),
}

/// Why a session is over.
#[derive(Debug)]
pub(super) enum End {
    /// The host is gone, or cannot be reached any more.
    Hangup,
    /// The host broke the protocol.
    Protocol(ProtocolError),
}

/// A part of a session that waits for a descriptor.
#[derive(Debug, Clone, Copy)]
pub(super) enum Part {
    /// The stream to the host.
    Host,
    /// A stream of a channel.
    Channel(u32, Stream),
}

impl Session {
    /// Waits for a host's preamble on `host`, which must not block.
    pub(super) fn new(host: File) -> Self {
        Self {
            host,
            input: Input::Preamble(Scanner::for_host()),
            outbox: Outbox::default(),
            channels: BTreeMap::new(),
        }
    }

    /// Ends all that the host has asked for, and waits for another one.
    pub(super) fn restart(&mut self) {
        self.channels.clear();
        self.outbox = Outbox::default();
        self.input = Input::Preamble(Scanner::for_host());
    }

    /// Says which descriptors it waits for.
    pub(super) fn watch(&self, watch: &mut dyn FnMut(BorrowedFd<'_>, Events, Part)) {
        match (self.outbox.takes_requests(), self.outbox.is_empty()) {
            (true, true) => watch(self.host.as_fd(), Events::READ, Part::Host),
            (true, false) => watch(self.host.as_fd(), Events::BOTH, Part::Host),
            (false, _) => watch(self.host.as_fd(), Events::WRITE, Part::Host),
        }
        let room = self.outbox.has_room();
        for (&number, channel) in &self.channels {
            channel.watch(room, &mut |file, events, stream| {
                watch(file, events, Part::Channel(number, stream));
            });
        }
    }

    /// Whether it has something to do that no descriptor tells of.
    pub(super) fn is_busy(&self) -> bool {
        self.outbox.has_room() && self.channels.values().any(|channel| channel.is_busy())
    }

    /// When it wants to do something in any case.
    pub(super) fn wakes_at(&self) -> Option<Instant> {
        self.channels.values().filter_map(|channel| channel.wakes_at()).min()
    }

    /// Reads and handles what the host has sent.
    pub(super) fn read_host(&mut self, shared: &mut Shared) -> Result<(), End> {
        /// A virtio-serial port gives one page at a time; other work waits for so many.
        const READS: usize = 16;
        let mut buffer = std::mem::take(&mut shared.input);
        let mut result = Ok(());
        for _ in 0..READS {
            if !self.outbox.takes_requests() {
                break;
            }
            match (&self.host).read(&mut buffer) {
                Ok(count) if count > 0 => {
                    result = self.take(&buffer[..count], shared).map_err(End::Protocol);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                _ => result = Err(End::Hangup),
            }
            if result.is_err() {
                break;
            }
        }
        shared.input = buffer;
        result
    }

    fn take(&mut self, bytes: &[u8], shared: &mut Shared) -> Result<(), ProtocolError> {
        let heard = match &mut self.input {
            Input::Requests(_, heir) => heir.push(bytes),
            Input::Preamble(scanner) => {
                let Some((preamble, rest)) = scanner.push(bytes)? else {
                    return Ok(());
                };
                self.outbox.push_bytes(&Preamble::new(Side::Guest, preamble.nonce).encode());
                self.outbox.push(SESSION_CHANNEL, &Reply::Welcome(welcome(shared.guest)));
                self.input = Input::Requests(Decoder::default(), Heir::new(preamble.nonce));
                return self.take(&rest, shared);
            }
        };
        let Heard { session, successor } = heard;
        if let Some(rest) = successor {
            // What the host of the snapshot was about to say is not for this guest.
            self.restart();
            return self.take(&rest, shared);
        }
        self.obey(&session, shared)
    }

    /// Does what the host asks for.
    fn obey(&mut self, bytes: &[u8], shared: &mut Shared) -> Result<(), ProtocolError> {
        if let Input::Requests(decoder, _) = &mut self.input {
            decoder.push(bytes);
        }
        while let Input::Requests(decoder, _) = &mut self.input
            && let Some(frame) = decoder.next_frame()?
        {
            let (channel, length) = (frame.channel, frame.payload.len());
            let request = Request::decode(&frame)?;
            self.handle(channel, request, length, shared)?;
        }
        Ok(())
    }

    fn handle(
        &mut self,
        number: u32,
        request: Request,
        length: usize,
        shared: &mut Shared,
    ) -> Result<(), ProtocolError> {
        if request.is_opener() {
            return self.open(number, request, shared);
        }
        // Else it was sent before the host heard that the conversation is over.
        if let Some(channel) = self.channels.get_mut(&number) {
            let mut replies = Replies::new(number, &mut self.outbox, &mut shared.buffer);
            let flow = channel.receive(request, length, &mut replies)?;
            self.settle(number, flow, shared);
        }
        Ok(())
    }

    fn open(
        &mut self,
        number: u32,
        request: Request,
        shared: &mut Shared,
    ) -> Result<(), ProtocolError> {
        if number == SESSION_CHANNEL || self.channels.contains_key(&number) {
            return Err(ProtocolError::Malformed("a channel that is in use is opened"));
        }
        if self.channels.len() >= MAX_CHANNELS {
            let message = format_args!("the agent does {MAX_CHANNELS} things at once already");
            self.outbox.push(number, &failed(FailureKind::Limit, message));
            return Ok(());
        }
        match opened(request, shared, &mut self.outbox, number) {
            Ok(channel) => {
                self.channels.insert(number, channel);
            }
            Err(answer) => self.outbox.push(number, &answer),
        }
        Ok(())
    }

    /// A part is ready.
    pub(super) fn ready(&mut self, part: Part, shared: &mut Shared) -> Result<(), End> {
        match part {
            Part::Host => self.read_host(shared),
            Part::Channel(number, stream) => {
                self.with(number, shared, |channel, replies| channel.ready(stream, replies));
                Ok(())
            }
        }
    }

    /// A process has ended, which may be one of the session's.
    pub(super) fn process_ended(
        &mut self,
        process: ProcessGroup,
        status: ExitStatus,
        shared: &mut Shared,
    ) {
        let mut channels = self.channels.iter();
        let owner = channels.find(|(_, channel)| channel.process() == Some(process));
        if let Some((&number, _)) = owner {
            self.with(number, shared, |channel, replies| channel.process_ended(status, replies));
        }
    }

    /// Lets every channel that is busy or has woken up do a part of its work.
    pub(super) fn advance(&mut self, now: Instant, shared: &mut Shared) {
        let room = self.outbox.has_room();
        let due = |channel: &dyn Channel| {
            (room && channel.is_busy()) || channel.wakes_at().is_some_and(|time| time <= now)
        };
        let due = self.channels.iter().filter(|(_, channel)| due(channel.as_ref()));
        let due: Vec<u32> = due.map(|(&number, _)| number).collect();
        for number in due {
            self.with(number, shared, |channel, replies| channel.advance(replies));
        }
    }

    fn with(
        &mut self,
        number: u32,
        shared: &mut Shared,
        act: impl FnOnce(&mut dyn Channel, &mut Replies<'_>) -> Flow,
    ) {
        // It may have ended by something else that happened at the same time.
        if let Some(channel) = self.channels.get_mut(&number) {
            let mut replies = Replies::new(number, &mut self.outbox, &mut shared.buffer);
            let flow = act(channel.as_mut(), &mut replies);
            self.settle(number, flow, shared);
        }
    }

    fn settle(&mut self, number: u32, flow: Flow, shared: &mut Shared) {
        if flow == Flow::Over
            && let Some(mut channel) = self.channels.remove(&number)
        {
            shared.leftovers.append(&mut channel.leftovers());
        }
    }

    /// Writes what the host takes.
    pub(super) fn flush(&mut self) -> Result<(), End> {
        self.outbox.flush(&self.host).map_err(|_| End::Hangup)
    }
}

fn welcome(guest: Guest) -> Welcome {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    Welcome {
        agent: env!("CARGO_PKG_VERSION").to_owned(),
        kernel: kernel.trim().chars().take(Welcome::MAX_TEXT / 4).collect(),
        has_init: guest.root_has_init,
        uptime: u64::try_from(clock::uptime().as_nanos()).unwrap_or(u64::MAX),
    }
}
