//! The process that owns the VM: what it says over the control socket, and whether it lives.

use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use crate::control::{Messages, Order, Report};
use crate::poll::PollSet;

/// The owner, as far as it is there.
pub(crate) struct Owner {
    control: Option<UnixStream>,
    /// Becomes readable when the process has ended. The control socket does not tell that where a
    /// child of the owner has inherited it.
    process: Option<OwnedFd>,
    messages: Messages,
}

/// What a descriptor of the owner is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Link {
    /// The control socket.
    Control,
    /// The process.
    Process,
}

impl Owner {
    pub(crate) fn new(control: UnixStream, process: Option<OwnedFd>) -> Self {
        Self { control: Some(control), process, messages: Messages::default() }
    }

    /// Whether it is there.
    pub(crate) fn is_there(&self) -> bool {
        self.control.is_some()
    }

    /// Adds the descriptors that are to be waited for.
    pub(crate) fn listen<T: Copy>(&self, set: &mut PollSet<T>, token: impl Fn(Link) -> T) {
        if let Some(control) = &self.control {
            set.add(control, token(Link::Control), true, false);
            if let Some(process) = &self.process {
                set.add(process, token(Link::Process), true, false);
            }
        }
    }

    /// Hears what is new on this descriptor: what the owner wants, or that it is gone.
    pub(crate) fn hear(&mut self, link: Link) -> Vec<Order> {
        let mut orders = Vec::new();
        if link == Link::Process || self.read(&mut orders).is_err() {
            self.control = None;
        }
        orders
    }

    fn read(&mut self, orders: &mut Vec<Order>) -> io::Result<()> {
        let Some(mut control) = self.control.as_ref() else { return Ok(()) };
        let mut buffer = [0; 4096];
        match control.read(&mut buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => self.messages.push(&buffer[..count]),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => return Ok(()),
                _ => return Err(error),
            },
        }
        while let Some(order) = self.messages.next_order().map_err(io::Error::other)? {
            orders.push(order);
        }
        Ok(())
    }

    /// Tells it something, if it is there. One that does not read what it is told is as good as
    /// gone: what it is told is little, and the socket holds hundreds of times as much.
    pub(crate) fn tell(&mut self, report: &Report) {
        if let Some(control) = &mut self.control
            && control.write_all(&report.encode()).is_err()
        {
            self.control = None;
        }
    }
}
