//! [`Server`]: the loop that waits for hosts and all that they have asked for.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use smolvm_protocol::VSOCK_PORT;

use super::Guest;
use super::machine::Machine;
use super::opener::Shared;
use super::port::Port;
use super::power;
use super::session::{End, Part, Session};
use crate::sys::launch::Restored;
use crate::sys::poll::{Events, PollSet};
use crate::sys::process::{self, ProcessGroup};
use crate::sys::socket;

/// All sessions, and what belongs to none.
pub(super) struct Server {
    /// Readable when a child has ended.
    children: File,
    port: Port,
    /// Where hosts connect to that have vsock.
    listener: Option<OwnedFd>,
    sessions: BTreeMap<u64, Session>,
    shared: Shared,
    /// What background processes may still write to, from the oldest on.
    leftovers: BTreeMap<u64, Rc<File>>,
    /// The number of the next session, or of what is left over by one.
    next: u64,
    /// When the guest is ended by force.
    forced_at: Option<Instant>,
}

/// What a descriptor that is waited for belongs to.
#[derive(Debug, Clone, Copy)]
enum Token {
    Children,
    Listener,
    Session(u64, Part),
    Leftover(u64),
}

/// The session of the port.
const PORT: u64 = 0;

/// Background processes beyond so many lose their output, as if it were closed.
const MAX_LEFTOVERS: usize = 4096;

/// Hosts beyond so many are not served.
const MAX_SESSIONS: usize = 64;

/// The size of what is read at once.
const BUFFER: usize = 64 * 1024;

impl Server {
    pub(super) fn new(guest: Guest, restored: Restored, machine: Machine) -> io::Result<Self> {
        Ok(Self {
            children: process::watch_children()?,
            port: Port::new(),
            listener: None,
            sessions: BTreeMap::new(),
            shared: Shared {
                guest,
                restored,
                machine,
                address: None,
                ending: None,
                input: vec![0; BUFFER],
                buffer: vec![0; BUFFER],
                leftovers: Vec::new(),
            },
            leftovers: BTreeMap::new(),
            next: PORT + 1,
            forced_at: None,
        })
    }

    /// Serves every host that comes.
    pub(super) fn run(mut self) -> io::Result<Infallible> {
        // A kernel without vsock is one way less to be reached.
        self.listener = socket::listen_vsock(VSOCK_PORT).ok();
        let mut poll = PollSet::new();
        loop {
            if let Some(port) = self.port.open() {
                self.sessions.insert(PORT, Session::new(port));
            }
            self.turn(&mut poll)?;
            self.end_guest();
        }
    }

    /// Serves this host alone, until it is gone.
    #[cfg(test)]
    pub(super) fn serve_only(mut self, host: File) -> io::Result<()> {
        let mut poll = PollSet::new();
        self.sessions.insert(PORT + 1, Session::new(host));
        while !self.sessions.is_empty() {
            self.turn(&mut poll)?;
        }
        Ok(())
    }

    /// Waits until something happens, and does what is to be done then.
    fn turn(&mut self, poll: &mut PollSet<Token>) -> io::Result<()> {
        self.watch(poll);
        poll.wait(self.timeout())?;
        for token in poll.happened() {
            match token {
                Token::Children => self.reap(),
                Token::Listener => self.accept(),
                Token::Session(number, part) => self.ready(number, part),
                Token::Leftover(number) => self.drain(number),
            }
        }
        let now = Instant::now();
        let mut ended = Vec::new();
        for (&number, session) in &mut self.sessions {
            session.advance(now, &mut self.shared);
            if let Err(end) = session.flush() {
                ended.push((number, end));
            }
        }
        for (number, end) in ended {
            self.end(number, &end);
        }
        self.keep_leftovers();
        Ok(())
    }

    fn watch(&self, poll: &mut PollSet<Token>) {
        poll.clear();
        poll.add(self.children.as_fd(), Events::READ, Token::Children);
        if let Some(listener) = &self.listener {
            poll.add(listener.as_fd(), Events::READ, Token::Listener);
        }
        for (&number, session) in &self.sessions {
            if number == PORT && !self.port.is_connected() {
                continue;
            }
            session.watch(&mut |file, events, part| {
                poll.add(file, events, Token::Session(number, part));
            });
        }
        for (&number, file) in &self.leftovers {
            poll.add(file.as_fd(), Events::READ, Token::Leftover(number));
        }
    }

    /// How long nothing needs to be done unless something happens.
    fn timeout(&self) -> Option<Duration> {
        if self.sessions.values().any(Session::is_busy) {
            return Some(Duration::ZERO);
        }
        let sessions = self.sessions.values().filter_map(Session::wakes_at);
        let next = sessions.chain(self.port.wakes_at()).chain(self.forced_at).min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    fn ready(&mut self, number: u64, part: Part) {
        // It may have ended by something else that happened at the same time.
        if let Some(session) = self.sessions.get_mut(&number)
            && let Err(end) = session.ready(part, &mut self.shared)
        {
            self.end(number, &end);
        }
    }

    /// Takes what connects over vsock. Other machines, and the guest itself, are no hosts.
    fn accept(&mut self) {
        let Some(listener) = &self.listener else {
            return;
        };
        match socket::accept_vsock(listener) {
            Ok((host, socket::HOST)) if self.sessions.len() < MAX_SESSIONS => {
                self.sessions.insert(self.next, Session::new(host));
                self.next += 1;
            }
            // Else the connection is closed, or whoever wanted to connect has changed his mind.
            _ => {}
        }
    }

    /// Ends the guest, if that was asked for.
    fn end_guest(&mut self) {
        let Shared { guest, restored, .. } = self.shared;
        if let Some(how) = self.shared.ending.take() {
            let forced_at = power::begin(how, guest, restored);
            self.forced_at.get_or_insert(forced_at);
        }
        if self.forced_at.is_some_and(|time| time <= Instant::now()) {
            power::force();
        }
    }

    fn reap(&mut self) {
        let mut signals = [0; 1024];
        // They are read so that the descriptor waits for the next; any number of children may
        // share one.
        let _ = self.children.read(&mut signals);
        while let Some((process, status)) = ProcessGroup::reap_any() {
            for session in self.sessions.values_mut() {
                session.process_ended(process, status, &mut self.shared);
            }
        }
    }

    fn drain(&mut self, number: u64) {
        let Some(mut file) = self.leftovers.get(&number).map(Rc::as_ref) else {
            return;
        };
        match file.read(&mut self.shared.buffer) {
            Ok(count) if count > 0 => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            _ => {
                self.leftovers.remove(&number);
            }
        }
    }

    /// Keeps what channels that are over have left, so that nobody is killed for writing to it.
    fn keep_leftovers(&mut self) {
        for file in self.shared.leftovers.drain(..) {
            self.leftovers.insert(self.next, file);
            self.next += 1;
        }
        while self.leftovers.len() > MAX_LEFTOVERS {
            self.leftovers.pop_first();
        }
    }

    /// Ends a session: all that it had asked for ends with it.
    fn end(&mut self, number: u64, end: &End) {
        if let End::Protocol(error) = end {
            let message = format_args!("a host is not served any more: {error}");
            self.shared.machine.note(message);
        }
        if number != PORT {
            self.sessions.remove(&number);
        } else if let Some(session) = self.sessions.get_mut(&number) {
            session.restart();
            if !matches!(end, End::Protocol(_)) {
                self.port.hung_up();
            }
        }
    }
}
