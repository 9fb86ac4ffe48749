//! [`Outgoing`]: what is on its way to the guest. Nobody who sends ever waits for the guest beyond
//! a deadline, and what waits to be sent is bounded.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};
use smolvm_fork::Unshared;
use smolvm_image::CancelToken;

use super::wait::{is_cancelled, wait_on};

/// The socket, and the bytes that it has not taken yet.
#[derive(Debug)]
pub(super) struct Outgoing {
    /// A forked child does not have it: what runs in the guest for this process ends with it.
    socket: Unshared<UnixStream>,
    queue: Mutex<Queue>,
    room: Condvar,
    /// Wakes the receiving thread, so that it sends what the socket did not take at once.
    wake: OwnedFd,
}

#[derive(Debug, Default)]
struct Queue {
    bytes: VecDeque<u8>,
    closed: bool,
}

/// Why something was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotSent {
    /// The session has ended.
    Closed,
    /// The deadline passed first.
    TimedOut,
    /// The caller's token was cancelled first.
    Cancelled,
    /// The guest does not read, and too much waits to be sent already.
    Overflow,
}

/// What the receiving thread has to do.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) readable: bool,
    pub(super) writable: bool,
}

impl Outgoing {
    /// Requests and data wait while more than this many bytes are to be sent.
    const ROOM: usize = 1024 * 1024;

    /// Short messages that cannot wait (credit, signals, the closing of a channel) are sent up to
    /// here: many times what a guest that reads could leave waiting.
    const LIMIT: usize = 4 * Self::ROOM;

    pub(super) fn new(socket: UnixStream) -> io::Result<Self> {
        Ok(Self {
            socket: Unshared::new(socket),
            queue: Mutex::default(),
            room: Condvar::new(),
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        })
    }

    /// Sends a frame once there is room for it.
    pub(super) fn send(
        &self,
        frame: &[u8],
        deadline: Option<Instant>,
        cancel: Option<&CancelToken>,
    ) -> Result<(), NotSent> {
        let late = || if is_cancelled(cancel) { NotSent::Cancelled } else { NotSent::TimedOut };
        let mut queue = self.queue();
        while !queue.closed && queue.bytes.len() > Self::ROOM {
            queue = wait_on(&self.room, queue, deadline, cancel).ok_or_else(late)?;
        }
        self.push(&mut queue, frame)
    }

    /// Sends a frame without waiting.
    pub(super) fn send_now(&self, frame: &[u8]) -> Result<(), NotSent> {
        let mut queue = self.queue();
        if queue.bytes.len() > Self::LIMIT {
            return Err(NotSent::Overflow);
        }
        self.push(&mut queue, frame)
    }

    fn push(&self, queue: &mut Queue, frame: &[u8]) -> Result<(), NotSent> {
        if queue.closed {
            return Err(NotSent::Closed);
        }
        let sent = if queue.bytes.is_empty() { self.send_some(frame)? } else { 0 };
        if sent < frame.len() {
            let was_empty = queue.bytes.is_empty();
            queue.bytes.extend(&frame[sent..]);
            if was_empty {
                self.wake();
            }
        }
        Ok(())
    }

    /// Sends what the socket takes of what waits.
    pub(super) fn flush(&self) -> Result<(), NotSent> {
        let mut queue = self.queue();
        while !queue.bytes.is_empty() {
            let sent = self.send_some(queue.bytes.as_slices().0)?;
            if sent == 0 {
                break;
            }
            queue.bytes.drain(..sent);
        }
        if queue.bytes.len() <= Self::ROOM {
            self.room.notify_all();
        }
        Ok(())
    }

    /// How many of the bytes the socket takes at once.
    fn send_some(&self, bytes: &[u8]) -> Result<usize, NotSent> {
        loop {
            match send(&*self.socket, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(sent) => return Ok(sent),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN | Errno::NOBUFS) => return Ok(0),
                Err(_) => return Err(NotSent::Closed),
            }
        }
    }

    /// Waits until the socket can be read, or written where something waits to be sent.
    pub(super) fn wait(&self) -> io::Result<Ready> {
        let mut interest = PollFlags::IN;
        if !self.queue().bytes.is_empty() {
            interest |= PollFlags::OUT;
        }
        let mut polled =
            [PollFd::new(&*self.socket, interest), PollFd::new(&self.wake, PollFlags::IN)];
        match poll(&mut polled, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let ready = polled[0].revents();
        if !polled[1].revents().is_empty() {
            // Only that it was woken counts.
            let _ = rustix::io::read(&self.wake, &mut [0; 8]);
        }
        Ok(Ready {
            readable: ready.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR),
            writable: ready.contains(PollFlags::OUT),
        })
    }

    /// Reads what has come. 0 bytes: the other side has gone.
    pub(super) fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match recv(&*self.socket, buffer, RecvFlags::DONTWAIT) {
            Ok((count, _)) => Ok(Some(count)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Ends the connection; the receiving thread sees its end.
    pub(super) fn close(&self) {
        let mut queue = self.queue();
        queue.closed = true;
        queue.bytes = VecDeque::new();
        self.room.notify_all();
        // A socket that the other side has closed already needs no closing.
        let _ = shutdown(&*self.socket, Shutdown::Both);
    }

    fn wake(&self) {
        // A counter that is full wakes all the same.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
