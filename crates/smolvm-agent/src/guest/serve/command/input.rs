//! [`Input`]: what the host sends to a program's standard input, until the program takes it.

use std::fs::File;
use std::rc::Rc;

use smolvm_protocol::{ProtocolError, ReceiveWindow, Reply};

use super::super::backlog::Backlog;
use super::super::channel::Replies;
use crate::sys::pty;

/// The agent's end of a standard input. What nobody reads any more is dropped without an error, as
/// a program is free not to read its input.
pub(super) struct Input {
    file: Option<Rc<File>>,
    window: ReceiveWindow,
    waiting: Backlog,
    /// Whether nothing more comes.
    ended: bool,
    /// In a terminal an end is said by a character.
    terminal: bool,
    /// Whether what was last sent is an unfinished line.
    in_line: bool,
}

impl Input {
    /// An input that nobody reads.
    pub(super) fn none() -> Self {
        Self {
            file: None,
            window: ReceiveWindow::default(),
            waiting: Backlog::default(),
            ended: false,
            terminal: false,
            in_line: false,
        }
    }

    pub(super) fn pipe(file: File) -> Self {
        Self { file: Some(Rc::new(file)), ..Self::none() }
    }

    pub(super) fn terminal(master: Rc<File>) -> Self {
        Self { file: Some(master), terminal: true, ..Self::none() }
    }

    /// Takes in what the host sends.
    pub(super) fn take(
        &mut self,
        bytes: Vec<u8>,
        replies: &mut Replies<'_>,
    ) -> Result<(), ProtocolError> {
        self.window.received(bytes.len())?;
        if self.ended {
            return Err(ProtocolError::Malformed("a stream goes on after its end"));
        }
        if let Some(&last) = bytes.last() {
            self.in_line = last != b'\n';
            self.waiting.push(bytes);
            self.write(replies);
        }
        Ok(())
    }

    /// Nothing more comes.
    pub(super) fn end(&mut self) {
        if self.terminal
            && !self.ended
            && let Some(file) = &self.file
        {
            // The first one only ends a line that has begun.
            let count = if self.in_line { 2 } else { 1 };
            self.waiting.push(vec![pty::end_character(file); count]);
        }
        self.ended = true;
        if self.waiting.is_empty() {
            self.file = None;
        }
    }

    /// What there must be room in to go on.
    pub(super) fn waits_for(&self) -> Option<&File> {
        self.file.as_deref().filter(|_| !self.waiting.is_empty())
    }

    /// Writes what the program takes now.
    pub(super) fn write(&mut self, replies: &mut Replies<'_>) {
        let mut consumed = 0;
        if let Some(file) = self.file.as_deref() {
            let (count, written) = self.waiting.write(file);
            consumed += count;
            if written.is_err() {
                self.file = None;
            }
        }
        if self.file.is_none() {
            consumed += self.waiting.clear();
        } else if self.ended && self.waiting.is_empty() {
            self.file = None;
        }
        if let Some(credit) = self.window.consumed(consumed) {
            replies.send(&Reply::Credit(credit));
        }
    }

    /// The program has ended: nobody reads what still comes.
    pub(super) fn program_ended(&mut self, replies: &mut Replies<'_>) {
        self.file = None;
        self.write(replies);
    }
}
