//! [`Channel`]: one conversation of a session, and how it answers.

use std::fs::File;
use std::os::fd::BorrowedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::rc::Rc;
use std::time::Instant;

use smolvm_protocol::{Exit, HEADER, ProtocolError, Reply, Request, Stream};

use super::outbox::Outbox;
use crate::sys::poll::Events;
use crate::sys::process::ProcessGroup;

/// A conversation that is not over with one answer.
pub(super) trait Channel {
    /// Takes in what the host says. `length` is that of its payload, which counts for the window.
    ///
    /// # Errors
    ///
    /// What breaks the protocol ends the session.
    fn receive(
        &mut self,
        request: Request,
        length: usize,
        replies: &mut Replies<'_>,
    ) -> Result<Flow, ProtocolError>;

    /// Says which descriptors it waits for. Where there is no `room` for what it would read, it
    /// waits only for those that it writes to.
    fn watch(&self, room: bool, watch: &mut dyn FnMut(BorrowedFd<'_>, Events, Stream));

    /// A descriptor that it waits for is ready; `stream` is as it said in [`Channel::watch`].
    fn ready(&mut self, stream: Stream, replies: &mut Replies<'_>) -> Flow;

    /// The process that it has started and that has not ended.
    fn process(&self) -> Option<ProcessGroup> {
        None
    }

    /// The process has ended.
    fn process_ended(&mut self, _status: ExitStatus, _replies: &mut Replies<'_>) -> Flow {
        Flow::Open
    }

    /// Whether it has something to do that no descriptor tells of.
    fn is_busy(&self) -> bool {
        false
    }

    /// When it wants to do something in any case.
    fn wakes_at(&self) -> Option<Instant> {
        None
    }

    /// Does a part of what makes it [busy](Channel::is_busy), or that it [woke up](Channel::wakes_at)
    /// for.
    fn advance(&mut self, _replies: &mut Replies<'_>) -> Flow {
        Flow::Open
    }

    /// What somebody may still write to although the conversation is over.
    fn leftovers(&mut self) -> Vec<Rc<File>> {
        Vec::new()
    }
}

/// Whether a conversation goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    /// It does.
    Open,
    /// The final reply was sent.
    Over,
}

/// Where the replies of one channel go.
pub(super) struct Replies<'a> {
    channel: u32,
    outbox: &'a mut Outbox,
    buffer: &'a mut [u8],
}

impl<'a> Replies<'a> {
    /// The replies on `channel`. `buffer` is for any use.
    pub(super) fn new(channel: u32, outbox: &'a mut Outbox, buffer: &'a mut [u8]) -> Self {
        Self { channel, outbox, buffer }
    }

    /// Sends a reply that is not the last one.
    pub(super) fn send(&mut self, reply: &Reply) {
        self.outbox.push(self.channel, reply);
    }

    /// Sends the last reply.
    pub(super) fn finish(&mut self, reply: &Reply) -> Flow {
        self.send(reply);
        Flow::Over
    }

    /// Memory to read into what is to be [sent](Replies::send_read), at most so much.
    pub(super) fn buffer(&mut self, limit: usize) -> &mut [u8] {
        let limit = self.buffer.len().min(limit).min(DATA);
        &mut self.buffer[..limit]
    }

    /// Sends the first `count` bytes of the [buffer](Replies::buffer) as a part of `stream`.
    pub(super) fn send_read(&mut self, stream: Stream, count: usize) {
        let bytes = self.buffer[..count.min(self.buffer.len())].to_vec();
        self.send(&Reply::Data(stream, bytes));
    }

    /// Whether more should be read for the host now.
    pub(super) fn has_room(&self) -> bool {
        self.outbox.has_room()
    }
}

/// The data of a frame that is 64 KiB long in all. A virtio-serial port takes half of that at once,
/// and each write costs the more the slower the machine is.
const DATA: usize = 64 * 1024 - HEADER - 1;

/// How the host is told that a process has ended.
pub(super) fn exit(status: ExitStatus) -> Exit {
    // Both numbers fit: the kernel keeps eight bits of the one and seven of the other.
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(u8::try_from(code).unwrap_or(u8::MAX)),
        (None, signal) => Exit::Signal(u8::try_from(signal.unwrap_or(0)).unwrap_or(0)),
    }
}
