//! [`Forward`]: a port of the host's loopback that leads to a port of the guest.

use std::collections::HashMap;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use smolvm_fork::Unshared;
use smolvm_protocol::{Request, Stream};

use super::Session;
use super::channel::Channel;
use super::error::SessionError;
use super::link::Connection;
use super::wait::deadline;

/// A port of the host, open on `127.0.0.1` alone, whose connections lead to a TCP port of the
/// guest. When it is dropped, the port is closed and its connections end.
#[derive(Debug)]
pub struct Forward {
    host_port: u16,
    listener: Arc<Unshared<TcpListener>>,
    connections: Arc<Connections>,
}

/// The connections that are open.
#[derive(Debug, Default)]
struct Connections {
    open: Mutex<Open>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Open {
    by_number: HashMap<u64, (Arc<Unshared<TcpStream>>, Arc<Channel>)>,
    /// Those that are open, or about to be.
    count: usize,
    next: u64,
    closed: bool,
}

/// Connections that are open at once; others wait in the listener's queue.
const MAX_CONNECTIONS: usize = 128;

/// How long the guest may take to connect to its own port.
const CONNECT: Duration = Duration::from_secs(30);

/// After the system has refused a connection for want of something, another one is tried so late.
const RECOVERY: Duration = Duration::from_millis(100);

impl Session {
    /// Opens `127.0.0.1:host_port` (`None` or 0: any free port), which leads to `guest_port` until
    /// what is returned is dropped. At most 128 connections are open at once, others wait.
    ///
    /// # Errors
    ///
    /// [`SessionError::Forward`] where the port cannot be opened.
    pub fn forward(
        &self,
        guest_port: u16,
        host_port: Option<u16>,
    ) -> Result<Forward, SessionError> {
        let wanted = host_port.unwrap_or(0);
        let open = || -> io::Result<Forward> {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, wanted))?;
            let listener = Arc::new(Unshared::new(listener));
            let host_port = listener.local_addr()?.port();
            let connections = Arc::new(Connections::default());
            let forward = Forward {
                host_port,
                listener: Arc::clone(&listener),
                connections: Arc::clone(&connections),
            };
            let session = Arc::clone(&self.connection);
            thread::Builder::new()
                .name("smolvm-forward".to_owned())
                .spawn(move || accept(&listener, &session, &connections, guest_port))?;
            Ok(forward)
        };
        open().map_err(|source| SessionError::Forward { host_port: wanted, guest_port, source })
    }
}

impl Forward {
    /// The port of the host.
    #[must_use]
    pub fn host_port(&self) -> u16 {
        self.host_port
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.connections.close();
        close(&self.listener);
    }
}

/// Accepts connections until the port is closed or the session ends.
fn accept(
    listener: &TcpListener,
    session: &Arc<Connection>,
    connections: &Arc<Connections>,
    guest_port: u16,
) {
    while connections.wait_for_room() && session.is_open() {
        let Ok((client, _)) = listener.accept() else {
            connections.leave(None);
            thread::sleep(RECOVERY);
            continue;
        };
        let session = Arc::clone(session);
        let shared = Arc::clone(connections);
        let serving = thread::Builder::new().name("smolvm-forwarded".to_owned()).spawn(move || {
            let number = serve(client, &session, &shared, guest_port);
            shared.leave(number);
        });
        if serving.is_err() {
            connections.leave(None);
            thread::sleep(RECOVERY);
        }
    }
    // Where the session has ended, nobody is to wait in the queue for ever.
    close(listener);
}

/// Wakes who accepts, and refuses who waits in the queue.
fn close(listener: &TcpListener) {
    // A listener that is closed already needs no closing.
    let _ = rustix::net::shutdown(listener, rustix::net::Shutdown::Both);
}

/// Serves a connection to its end. Returns its number, if it came into being.
fn serve(
    client: TcpStream,
    session: &Arc<Connection>,
    connections: &Connections,
    guest_port: u16,
) -> Option<u64> {
    let until = deadline(CONNECT);
    // The client sees a connection that is closed: all that TCP can say by now.
    let channel = Arc::new(session.open(&Request::Connect(guest_port), until, None).ok()?);
    if let Err(refused) = channel.wait_started(until) {
        let refused = refused.into_error(&format!("connect to its port {guest_port}"), CONNECT);
        log::debug!("{refused}");
        return None;
    }
    let client = Arc::new(Unshared::new(client));
    let number = connections.enter(&client, &channel)?;
    let upstream = {
        let (client, channel) = (Arc::clone(&client), Arc::clone(&channel));
        let name = "smolvm-forwarded-up".to_owned();
        thread::Builder::new().name(name).spawn(move || send_up(&client, &channel))
    };
    if upstream.is_ok() && send_down(&client, &channel) {
        // The guest has said all; the client may still speak.
        let _ = client.shutdown(Shutdown::Write);
        channel.wait_outcome(None);
    }
    channel.give_up();
    // Wakes the other thread out of its reading.
    let _ = client.shutdown(Shutdown::Both);
    if let Ok(upstream) = upstream {
        let _ = upstream.join();
    }
    Some(number)
}

/// Sends what the client says to the guest.
fn send_up(mut client: &TcpStream, channel: &Channel) {
    let mut buffer = vec![0; 32 * 1024];
    loop {
        match client.read(&mut buffer) {
            Ok(0) => break channel.end_input(),
            Ok(count) => {
                let mut rest = &buffer[..count];
                while !rest.is_empty() {
                    let Ok(taken) = channel.write(rest, None) else {
                        return;
                    };
                    rest = &rest[taken..];
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break channel.give_up(),
        }
    }
}

/// Sends what the guest says to the client; whether that came to its proper end.
fn send_down(mut client: &TcpStream, channel: &Channel) -> bool {
    let mut buffer = vec![0; 32 * 1024];
    loop {
        match channel.read(Stream::Stdout, &mut buffer, None) {
            Ok(0) => return true,
            Ok(count) if client.write_all(&buffer[..count]).is_ok() => {}
            _ => return false,
        }
    }
}

impl Connections {
    /// Waits until one more may be open, and counts it; `false` once the port is closed.
    fn wait_for_room(&self) -> bool {
        let mut open = self.open();
        while !open.closed && open.count >= MAX_CONNECTIONS {
            open = self.changed.wait(open).unwrap_or_else(PoisonError::into_inner);
        }
        open.count += 1;
        !open.closed
    }

    /// Gives a connection its number, unless the port is closed.
    fn enter(&self, client: &Arc<Unshared<TcpStream>>, channel: &Arc<Channel>) -> Option<u64> {
        let mut open = self.open();
        if open.closed {
            return None;
        }
        let number = open.next;
        open.next += 1;
        open.by_number.insert(number, (Arc::clone(client), Arc::clone(channel)));
        Some(number)
    }

    fn leave(&self, number: Option<u64>) {
        let mut open = self.open();
        open.count -= 1;
        number.and_then(|number| open.by_number.remove(&number));
        drop(open);
        self.changed.notify_all();
    }

    fn close(&self) {
        let ended = {
            let mut open = self.open();
            open.closed = true;
            std::mem::take(&mut open.by_number)
        };
        self.changed.notify_all();
        for (client, channel) in ended.into_values() {
            channel.give_up();
            let _ = client.shutdown(Shutdown::Both);
        }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
