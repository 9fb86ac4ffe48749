//! Any number of clients on one channel to the guest: each speaks the protocol with this module
//! as if it were the guest, and has channels of its own.
//!
//! Memory stays bounded whatever the guest does, since it can send no more than clients gave it
//! credit for; whatever a client does, no other waits for it.

mod channel;
mod client;
mod dial;
mod guest;
mod link;
mod outgoing;
mod passing;

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use smolvm_protocol::Nonce;

use self::channel::{Channels, ClientId};
use self::client::Client;
use self::guest::Heard;
use self::link::Link;
use crate::poll::{PollSet, Ready};
use crate::state::Agent;

/// The clients, and the guest that they speak with.
pub(crate) struct Mux {
    listener: UnixListener,
    link: Link,
    clients: BTreeMap<ClientId, Client>,
    next_client: ClientId,
    channels: Channels,
    /// The frames on channels that nobody has opened.
    strays: u32,
    buffer: Vec<u8>,
}

/// What a descriptor of the mux is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The socket that clients connect to.
    Listener,
    /// The channel to the guest.
    Guest,
    /// The attempt to make that.
    Dial,
    /// A client.
    Client(ClientId),
}

/// The clients that are served at once. Others wait until one of them leaves.
const MAX_CLIENTS: usize = 64;
/// How many bytes are read at once.
const READ: usize = 64 * 1024;
/// While so much is on its way to the guest, clients are not read.
const GUEST_FULL: usize = 256 * 1024;
/// A guest that reads nothing, although it can be sent only answers to what it says itself.
const GUEST_LIMIT: usize = 32 * 1024 * 1024;
/// The most bytes on their way to all clients together; past it the one with most is cut off.
const CLIENTS_LIMIT: usize = 256 * 1024 * 1024;
/// How long clients may take to read the last words.
const LINGER: Duration = Duration::from_millis(500);

impl Mux {
    /// Listens on `socket` for clients, and speaks with the guest over `channel`, in place of the
    /// session whose nonce is that of `succeeds`.
    pub(crate) fn new(
        socket: &Path,
        channel: UnixStream,
        succeeds: Option<Nonce>,
    ) -> io::Result<Self> {
        Self::with(socket, Link::over(channel, succeeds)?)
    }

    /// Listens on `socket` for clients, and speaks with the guest over its vsock, to which the VMM
    /// leads at `vsock`. While there is something in the file `paused`, a snapshot may be made,
    /// which ends every connection: then it is reached once more.
    pub(crate) fn over_vsock(socket: &Path, vsock: &Path, paused: PathBuf) -> io::Result<Self> {
        Self::with(socket, Link::over_vsock(vsock, paused))
    }

    fn with(socket: &Path, link: Link) -> io::Result<Self> {
        match fs::remove_file(socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(socket)?;
        fs::set_permissions(socket, Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener,
            link,
            clients: BTreeMap::new(),
            next_client: 0,
            channels: Channels::default(),
            strays: 0,
            buffer: vec![0; READ],
        })
    }

    /// How it stands with the agent.
    pub(crate) fn agent(&self) -> &Agent {
        self.link.agent()
    }

    /// The nonce of the session with the agent, once that answers.
    pub(crate) fn nonce(&self) -> Option<Nonce> {
        self.link.nonce()
    }

    /// After what time to [dial](Self::dial) again, if that is to be done.
    pub(crate) fn dials_again(&self) -> Option<Duration> {
        self.link.dials_again()
    }

    /// Tries to reach the guest, where it is not reached yet.
    pub(crate) fn dial(&mut self) {
        if let Err(error) = self.link.dial() {
            self.lose_guest(format!("cannot speak with the guest: {error}"));
        }
    }

    /// Adds the descriptors that are to be waited for.
    pub(crate) fn listen<T: Copy>(&self, set: &mut PollSet<T>, token: impl Fn(End) -> T) {
        if self.clients.len() < MAX_CLIENTS {
            set.add(&self.listener, token(End::Listener), true, false);
        }
        if let Some(attempt) = self.link.awaited() {
            set.add(attempt, token(End::Dial), true, false);
        }
        let mut is_full = false;
        if let Some(guest) = &self.link.guest {
            is_full = guest.outgoing.len() >= GUEST_FULL;
            set.add(&guest.socket, token(End::Guest), true, !guest.outgoing.is_empty());
        }
        for (&id, client) in &self.clients {
            let is_heard = client.is_heard() && (!is_full || client.is_greeting());
            set.add(&client.socket, token(End::Client(id)), is_heard, !client.outgoing.is_empty());
        }
    }

    /// Does what can be done now that a descriptor is ready.
    pub(crate) fn serve(&mut self, end: End, ready: Ready) {
        match end {
            End::Listener => self.accept(),
            End::Guest => {
                if let Some(guest) = self.link.guest.as_mut().filter(|_| ready.writable) {
                    guest.outgoing.unblock();
                }
                if ready.readable {
                    self.hear_guest();
                }
            }
            // It goes on when all have been served.
            End::Dial => {}
            End::Client(id) => self.serve_client(id, ready),
        }
    }

    /// Writes what can be written. To be called when all that was ready has been served.
    pub(crate) fn flush(&mut self) {
        if let Some(guest) = &mut self.link.guest {
            if guest.outgoing.flush(&guest.socket).is_err() {
                self.hang_up();
            } else if guest.outgoing.len() > GUEST_LIMIT {
                self.lose_guest(broken("it reads nothing"));
            }
        }
        let mut gone = Vec::new();
        let mut total = 0;
        for (&id, client) in &mut self.clients {
            if client.outgoing.flush(&client.socket).is_err() || client.is_over() {
                gone.push(id);
            }
            total += client.outgoing.len();
        }
        if total > CLIENTS_LIMIT {
            let fullest = self.clients.iter().max_by_key(|(_, client)| client.outgoing.len());
            gone.extend(fullest.map(|(&id, _)| id));
        }
        for id in gone {
            self.forget(id);
        }
    }

    /// Takes what the guest said last, gives all clients what is still theirs, and disconnects
    /// them: the VMM has ended.
    pub(crate) fn finish(mut self) {
        let mut left = usize::MAX;
        // As much as a socket holds, and not what a child of the VMM may go on to write.
        for _ in 0..64 {
            if self.link.guest.is_none() || left == 0 {
                break;
            }
            left = self.hear_guest();
        }
        let deadline = Instant::now() + LINGER;
        loop {
            self.flush();
            let mut set = PollSet::new();
            for (&id, client) in &self.clients {
                if !client.outgoing.is_empty() {
                    set.add(&client.socket, id, false, true);
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if set.is_empty() || left.is_zero() {
                return;
            }
            for (id, _) in set.wait(Some(left)).unwrap_or_default() {
                if let Some(client) = self.clients.get_mut(&id) {
                    client.outgoing.unblock();
                }
            }
        }
    }

    fn accept(&mut self) {
        match self.listener.accept() {
            Ok((socket, _)) => {
                if let Ok(client) = Client::new(socket) {
                    self.clients.insert(self.next_client, client);
                    self.next_client += 1;
                }
            }
            // The client waits; who asks again at once gets no descriptor either.
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(_) => {}
        }
    }

    fn serve_client(&mut self, id: ClientId, ready: Ready) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        if ready.writable {
            client.outgoing.unblock();
        }
        if ready.readable {
            match client.socket.read(&mut self.buffer) {
                Ok(count) if count > 0 => {
                    client.push(&self.buffer[..count]);
                    self.attend(id);
                }
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                    ) => {}
                _ => self.forget(id),
            }
        } else if ready.closed {
            // Nobody is there to hear what is still to come.
            self.forget(id);
        }
    }

    /// Forgets a client that is gone.
    fn forget(&mut self, id: ClientId) {
        self.close_channels(id);
        self.clients.remove(&id);
    }

    /// Reads what the guest says. Returns how much that was.
    fn hear_guest(&mut self) -> usize {
        let Some(guest) = &mut self.link.guest else { return 0 };
        match guest.read(&mut self.buffer) {
            Heard::Nothing => 0,
            Heard::End => {
                self.hang_up();
                0
            }
            Heard::Bytes(count) => {
                if let Err(error) = self.pass_on(count) {
                    self.lose_guest(broken(&error.to_string()));
                }
                count
            }
        }
    }

    /// The channel to the guest has ended: with it, or because a snapshot of it is made.
    fn hang_up(&mut self) {
        if !self.link.renew() {
            return self.lose_guest("the VMM closed the agent's channel".into());
        }
        // Who waits for the agent goes on waiting.
        for client in self.clients.values_mut().filter(|client| !client.is_waiting()) {
            client.dismiss("a snapshot of the VM was made, which ends what was run in it");
        }
        self.channels = Channels::default();
    }

    /// Ends the session with the guest; all clients learn why.
    fn lose_guest(&mut self, why: String) {
        for client in self.clients.values_mut() {
            client.dismiss(&why);
        }
        self.link.lose(why);
    }
}

fn broken(how: &str) -> String {
    format!("the guest's agent broke the protocol: {how}")
}
