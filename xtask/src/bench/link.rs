//! [`Link`]: a line to a server that has a delay and a rate, in the place of the kernel's netem.
//!
//! It passes bytes on and knows nothing of HTTP, so that every client meets the same line.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Result;

/// What a line is like. The default has no delay and no limits.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Quality {
    /// From an end to the other and back.
    pub(crate) round_trip: Duration,
    /// What one connection brings at most; a token bucket that holds [`BURST`].
    pub(crate) bytes_per_second: Option<u64>,
}

/// What a full token bucket holds.
const BURST: u64 = 64 << 10;

/// What is read at a time.
const BLOCK: usize = 64 << 10;

/// What may be on its way in one connection: what Linux lets a receiver announce by default
/// (`tcp_rmem`), so that a long line is no faster than a real one.
const WINDOW: usize = 6 << 20;

/// A line to a server, at a port of its own. Ends, with its connections, when dropped.
pub(crate) struct Link {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

struct Shared {
    server: SocketAddr,
    quality: Quality,
    ended: AtomicBool,
    /// What was passed on towards clients.
    received: AtomicU64,
    /// A connection ends after that many bytes towards its client.
    cut: AtomicU64,
    sockets: Mutex<Vec<TcpStream>>,
}

impl Link {
    /// Begins to pass connections on to a server.
    pub(crate) fn start(server: SocketAddr, quality: Quality) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            server,
            quality,
            ended: AtomicBool::new(false),
            received: AtomicU64::new(0),
            cut: AtomicU64::new(u64::MAX),
            sockets: Mutex::default(),
        });
        let acceptor = thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Ok(Self { address, shared, acceptor: Some(acceptor) })
    }

    /// `http://127.0.0.1:PORT`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The bytes that were passed on towards clients since the last time this was asked.
    pub(crate) fn take_received(&self) -> u64 {
        self.shared.received.swap(0, Ordering::SeqCst)
    }

    /// From now on a connection ends after that many bytes towards its client.
    pub(crate) fn cut_after(&self, bytes: Option<u64>) {
        self.shared.cut.store(bytes.unwrap_or(u64::MAX), Ordering::SeqCst);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        // The acceptor sees the end with its next connection.
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        let sockets = self.shared.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        for socket in sockets.iter() {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    while let Ok((client, _)) = listener.accept() {
        if shared.ended.load(Ordering::SeqCst) {
            return;
        }
        let shared = Arc::clone(shared);
        // A client that goes away in the middle is nothing to tell of.
        thread::spawn(move || drop(serve(&client, &shared)));
    }
}

fn serve(client: &TcpStream, shared: &Arc<Shared>) -> io::Result<()> {
    // The kernel has answered the client at once: the first round trip is made up here.
    thread::sleep(shared.quality.round_trip);
    let server = TcpStream::connect(shared.server)?;
    for socket in [client, &server] {
        socket.set_nodelay(true)?;
        let mut sockets = shared.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        sockets.push(socket.try_clone()?);
    }
    let outward = {
        let (client, server) = (client.try_clone()?, server.try_clone()?);
        let shared = Arc::clone(shared);
        thread::spawn(move || carry(&client, &server, Way::Out, &shared))
    };
    carry(&server, client, Way::Back, shared);
    let _ = server.shutdown(Shutdown::Both);
    let _ = client.shutdown(Shutdown::Both);
    let _ = outward.join();
    Ok(())
}

/// The rate, the count and the cut are those of the way back, from the server to the client.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Out,
    Back,
}

/// Carries bytes one way until either end closes.
fn carry(from: &TcpStream, to: &TcpStream, way: Way, shared: &Shared) {
    let queue = Queue::default();
    let delay = shared.quality.round_trip / 2;
    let rate = shared.quality.bytes_per_second.filter(|_| way == Way::Back);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut bucket = rate.map(Bucket::new);
            let mut from = from;
            loop {
                let mut block = vec![0; BLOCK];
                match from.read(&mut block) {
                    Ok(count @ 1..) => block.truncate(count),
                    Ok(0) | Err(_) => break,
                }
                if let Some(bucket) = &mut bucket {
                    bucket.take(block.len() as u64);
                }
                if !queue.push(Instant::now() + delay, block) {
                    break;
                }
            }
            queue.close();
        });
        deliver(&queue, to, way, shared);
        queue.close();
        let _ = from.shutdown(Shutdown::Read);
        let _ = to.shutdown(Shutdown::Write);
    });
}

fn deliver(queue: &Queue, mut to: &TcpStream, way: Way, shared: &Shared) {
    let mut sent = 0;
    while let Some((at, block)) = queue.pop() {
        thread::sleep(at.saturating_duration_since(Instant::now()));
        let left = match way {
            Way::Out => u64::MAX,
            Way::Back => shared.cut.load(Ordering::SeqCst).saturating_sub(sent),
        };
        let block = &block[..usize::try_from(left).unwrap_or(usize::MAX).min(block.len())];
        if block.is_empty() || to.write_all(block).is_err() {
            return;
        }
        sent += block.len() as u64;
        if way == Way::Back {
            shared.received.fetch_add(block.len() as u64, Ordering::SeqCst);
        }
    }
}

/// Blocks on their way, in order, each with the time at which it arrives.
#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    blocks: VecDeque<(Instant, Vec<u8>)>,
    bytes: usize,
    closed: bool,
}

impl Queue {
    /// Waits for room; says whether anybody still wants it.
    fn push(&self, at: Instant, block: Vec<u8>) -> bool {
        let full = |state: &mut State| state.bytes > WINDOW && !state.closed;
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state =
            self.changed.wait_while(state, full).unwrap_or_else(PoisonError::into_inner);
        state.bytes += block.len();
        state.blocks.push_back((at, block));
        self.changed.notify_all();
        !state.closed
    }

    fn pop(&self) -> Option<(Instant, Vec<u8>)> {
        let empty = |state: &mut State| state.blocks.is_empty() && !state.closed;
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state =
            self.changed.wait_while(state, empty).unwrap_or_else(PoisonError::into_inner);
        let next = state.blocks.pop_front();
        state.bytes -= next.as_ref().map_or(0, |(_, block)| block.len());
        self.changed.notify_all();
        next
    }

    fn close(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.changed.notify_all();
    }
}

/// A token bucket: what was not used is kept up to [`BURST`], and nothing else.
struct Bucket {
    rate: f64,
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    fn new(rate: u64) -> Self {
        Self { rate: rate.max(1) as f64, tokens: BURST as f64, filled: Instant::now() }
    }

    /// Waits until it has that many tokens, and takes them.
    fn take(&mut self, bytes: u64) {
        let now = Instant::now();
        let earned = now.duration_since(self.filled).as_secs_f64() * self.rate;
        self.tokens = (self.tokens + earned).min(BURST as f64) - bytes as f64;
        self.filled = now;
        if self.tokens < 0.0 {
            thread::sleep(Duration::from_secs_f64(-self.tokens / self.rate));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that sends `bytes` to everybody.
    fn server(bytes: usize) -> SocketAddr {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for client in listener.incoming() {
                let _ = client.unwrap().write_all(&vec![7; bytes]);
            }
        });
        address
    }

    fn receive(link: &Link) -> Vec<u8> {
        let mut bytes = Vec::new();
        TcpStream::connect(link.address).unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn every_byte_arrives_and_is_counted() {
        let quality =
            Quality { round_trip: Duration::from_millis(10), bytes_per_second: Some(50 << 20) };
        let link = Link::start(server(3 << 20), quality).unwrap();
        assert_eq!(receive(&link), vec![7; 3 << 20]);
        assert_eq!(link.take_received(), 3 << 20);
        assert_eq!(link.take_received(), 0);
    }

    #[test]
    fn a_connection_is_cut_where_it_should_be() {
        let link = Link::start(server(3 << 20), Quality::default()).unwrap();
        link.cut_after(Some(1_000_001));
        assert_eq!(receive(&link).len(), 1_000_001);
        link.cut_after(None);
        assert_eq!(receive(&link).len(), 3 << 20);
    }
}
