//! [`Settle`]: waiting until the image's init has started all that it starts.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use smolvm_protocol::{Exec, Program, ProtocolError, Reply, Request, Stream};

use super::Guest;
use super::channel::{Channel, Flow, Replies};
use super::command;
use super::failure::io_failure;
use super::init::Init;
use crate::sys::descriptor::set_pipe_nonblocking;
use crate::sys::launch::Restored;
use crate::sys::poll::Events;
use crate::sys::process::ProcessGroup;

/// Asks systemd whether it is done: first so that it answers when it is. Where it cannot do that,
/// for being too old or without D-Bus, it is asked again and again.
pub(super) struct Settle {
    restored: Restored,
    /// Whether systemd is asked to wait before it answers.
    waits: bool,
    state: State,
}

enum State {
    /// It is asked at this time.
    Paused(Instant),
    /// It is being asked.
    Asking { process: ProcessGroup, answer: File },
}

/// Before this is there, nobody answers.
const SYSTEMD_LISTENS: &str = "/run/systemd/private";

/// How long to wait before looking again, and before asking again: asking takes time away from
/// what is waited for.
const GLANCE: Duration = Duration::from_millis(50);
const PAUSE: Duration = Duration::from_millis(500);

/// What systemd says of itself before it is done. That it cannot be asked is said so as well.
const UNSETTLED: &[&str] = &["", "initializing", "starting", "offline", "unknown"];

impl Settle {
    /// Begins to wait; `None` where there is nothing to wait for. Of inits other than systemd
    /// nobody can say when they are done.
    pub(super) fn start(guest: Guest, restored: Restored) -> Option<Self> {
        let waits = || matches!(Init::of_guest(), Init::Systemd | Init::NotStarted);
        (guest.root_has_init && waits()).then(|| Self {
            restored,
            waits: true,
            state: State::Paused(Instant::now()),
        })
    }

    fn ask(&mut self) -> Result<(), Reply> {
        let mut command = vec![b"systemctl".to_vec(), b"is-system-running".to_vec()];
        if self.waits {
            command.push(b"--wait".to_vec());
        }
        let exec = Exec::new(Program::Arguments(command));
        let failed = |error| Reply::Failed(io_failure("cannot ask the guest's init", &error));
        let (answer, writer) = io::pipe().map_err(failed)?;
        set_pipe_nonblocking(&answer).map_err(failed)?;
        let process = command::start_unattended(&exec, Some(writer.as_fd()), self.restored)
            .map_err(Reply::Failed)?;
        self.state = State::Asking { process, answer: File::from(OwnedFd::from(answer)) };
        Ok(())
    }
}

impl Channel for Settle {
    fn receive(
        &mut self,
        request: Request,
        _length: usize,
        replies: &mut Replies<'_>,
    ) -> Result<Flow, ProtocolError> {
        match request {
            Request::Close => Ok(replies.finish(&Reply::Done)),
            _ => Err(ProtocolError::Malformed("that is not said while waiting")),
        }
    }

    fn watch(&self, _room: bool, _watch: &mut dyn FnMut(BorrowedFd<'_>, Events, Stream)) {}

    fn ready(&mut self, _stream: Stream, _replies: &mut Replies<'_>) -> Flow {
        Flow::Open
    }

    fn process(&self) -> Option<ProcessGroup> {
        match self.state {
            State::Asking { process, .. } => Some(process),
            State::Paused(_) => None,
        }
    }

    fn process_ended(&mut self, _status: ExitStatus, replies: &mut Replies<'_>) -> Flow {
        let mut said = [0; 64];
        let count = match &mut self.state {
            // An answer is one word, and whole.
            State::Asking { answer, .. } => answer.read(&mut said).unwrap_or(0),
            State::Paused(_) => 0,
        };
        let said = String::from_utf8_lossy(&said[..count]);
        if UNSETTLED.contains(&said.trim()) {
            self.waits = false;
            self.state = State::Paused(Instant::now() + PAUSE);
            return Flow::Open;
        }
        replies.finish(&Reply::Done)
    }

    fn wakes_at(&self) -> Option<Instant> {
        match self.state {
            State::Asking { .. } => None,
            State::Paused(until) => Some(until),
        }
    }

    fn advance(&mut self, replies: &mut Replies<'_>) -> Flow {
        match Init::of_guest() {
            Init::Systemd if Path::new(SYSTEMD_LISTENS).exists() => match self.ask() {
                Ok(()) => Flow::Open,
                Err(failed) => replies.finish(&failed),
            },
            Init::Systemd | Init::NotStarted => {
                self.state = State::Paused(Instant::now() + GLANCE);
                Flow::Open
            }
            _ => replies.finish(&Reply::Done),
        }
    }
}

impl Drop for Settle {
    fn drop(&mut self) {
        const SIGKILL: u8 = 9;
        if let State::Asking { process, .. } = self.state {
            process.signal(SIGKILL);
        }
    }
}
