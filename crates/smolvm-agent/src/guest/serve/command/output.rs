//! [`Output`]: what a program writes, as far as the host takes it.

use std::fs::File;
use std::io::{self, Read as _};
use std::rc::Rc;

use smolvm_protocol::{ProtocolError, Reply, SendWindow, Stream};

use super::super::channel::Replies;
use crate::sys::descriptor::pending;

/// The agent's end of a standard output or standard error.
pub(super) struct Output {
    stream: Stream,
    file: Option<Rc<File>>,
    terminal: bool,
    window: SendWindow,
    /// How much is still to be read after the program has ended: what it had written by then.
    /// What other processes write is not waited for.
    rest: Option<usize>,
    /// Whether nothing more is sent.
    over: bool,
}

/// A terminal does not say how much it holds. It is read until it is empty, or until this is more
/// than it ever holds, in case that a process goes on writing.
const TERMINAL_REST: usize = 256 * 1024;

impl Output {
    pub(super) fn pipe(stream: Stream, file: File) -> Self {
        Self {
            stream,
            file: Some(Rc::new(file)),
            terminal: false,
            window: SendWindow::default(),
            rest: None,
            over: false,
        }
    }

    pub(super) fn terminal(master: Rc<File>) -> Self {
        Self {
            stream: Stream::Stdout,
            file: Some(master),
            terminal: true,
            window: SendWindow::default(),
            rest: None,
            over: false,
        }
    }

    pub(super) fn stream(&self) -> Stream {
        self.stream
    }

    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// What is read from next, if the host takes any more now.
    pub(super) fn waits_for(&self) -> Option<&File> {
        self.file.as_deref().filter(|_| !self.over && self.window.available() > 0)
    }

    /// The host takes more.
    pub(super) fn credit(&mut self, bytes: u32) -> Result<(), ProtocolError> {
        self.window.credit(bytes)
    }

    /// Reads once.
    pub(super) fn read(&mut self, replies: &mut Replies<'_>) {
        let Some(mut file) = self.waits_for() else {
            return;
        };
        let limit = self.window.available().min(self.rest.unwrap_or(usize::MAX));
        match file.read(replies.buffer(limit)) {
            Ok(count) if count > 0 => {
                // It was asked for no more than there is credit for.
                if self.window.sent(count).is_ok() {
                    replies.send_read(self.stream, count);
                }
                self.rest = self.rest.map(|rest| rest - count);
                if self.rest == Some(0) {
                    self.finish(replies);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if self.rest.is_some() {
                    self.finish(replies);
                }
            }
            // A terminal that nobody has open says `EIO`; nothing else ever fails.
            Ok(_) | Err(_) => {
                self.file = None;
                self.finish(replies);
            }
        }
    }

    /// The program has ended: what it has written is all that is sent.
    pub(super) fn program_ended(&mut self, replies: &mut Replies<'_>) {
        if let Some(file) = self.file.as_deref()
            && !self.over
        {
            let rest = if self.terminal { TERMINAL_REST } else { pending(file).unwrap_or(0) };
            self.rest = Some(rest);
            if rest == 0 {
                self.finish(replies);
            }
            self.read_rest(replies);
        }
    }

    /// Reads what is left, as far as the host takes it.
    pub(super) fn read_rest(&mut self, replies: &mut Replies<'_>) {
        while self.waits_for().is_some() && replies.has_room() {
            self.read(replies);
        }
    }

    fn finish(&mut self, replies: &mut Replies<'_>) {
        self.over = true;
        replies.send(&Reply::End(self.stream));
    }

    /// Nobody wants what is still to come.
    pub(super) fn give_up(&mut self) {
        self.over = true;
    }

    /// Where other processes may still write to.
    pub(super) fn take_file(&mut self) -> Option<Rc<File>> {
        self.file.take()
    }
}
