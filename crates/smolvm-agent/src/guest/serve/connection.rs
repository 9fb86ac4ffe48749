//! [`Connection`]: a TCP connection to a port of the guest, made for the host.

use std::collections::VecDeque;
use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd as _, BorrowedFd};

use smolvm_protocol::{
    Failure, FailureKind, ProtocolError, ReceiveWindow, Reply, Request, SendWindow, Stream,
};

use super::backlog::Backlog;
use super::channel::{Channel, Flow, Replies};
use super::failure::{failed, failure, io_failure};
use crate::sys::poll::Events;
use crate::sys::socket;

/// A connection, perhaps one that does not stand yet.
pub(super) struct Connection {
    port: u16,
    stream: TcpStream,
    /// Where else somebody may listen, as long as it does not stand.
    others: Option<VecDeque<IpAddr>>,
    /// What the host has sent and the guest has not taken.
    waiting: Backlog,
    received: ReceiveWindow,
    /// Whether the host sends nothing more, and whether the guest was told.
    host_ended: bool,
    end_passed_on: bool,
    sent: SendWindow,
    /// Whether the guest sends nothing more.
    guest_ended: bool,
}

impl Connection {
    /// Begins to connect to `port`: to either loopback address, then to the guest's own `address`.
    pub(super) fn start(port: u16, address: Option<IpAddr>) -> Result<Self, Failure> {
        let mut others = VecDeque::from([Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        others.extend(address);
        let refused = io::ErrorKind::ConnectionRefused.into();
        let stream = next(&mut others, port, refused).map_err(|error| refusal(port, &error))?;
        Ok(Self {
            port,
            stream,
            others: Some(others),
            waiting: Backlog::default(),
            received: ReceiveWindow::default(),
            host_ended: false,
            end_passed_on: false,
            sent: SendWindow::default(),
            guest_ended: false,
        })
    }

    /// The attempt has come to an end, good or bad.
    fn attempted(&mut self, replies: &mut Replies<'_>) -> Flow {
        let error = match self.stream.take_error() {
            Ok(None) => {
                self.others = None;
                replies.send(&Reply::Started(0));
                return self.write(replies);
            }
            Ok(Some(error)) | Err(error) => error,
        };
        let others = self.others.get_or_insert_default();
        match next(others, self.port, error) {
            Ok(stream) => {
                self.stream = stream;
                Flow::Open
            }
            Err(error) => replies.finish(&Reply::Failed(refusal(self.port, &error))),
        }
    }

    fn read(&mut self, replies: &mut Replies<'_>) -> Flow {
        let limit = self.sent.available();
        if limit == 0 || self.guest_ended {
            return Flow::Open;
        }
        match self.stream.read(replies.buffer(limit)) {
            Ok(0) => {
                self.guest_ended = true;
                replies.send(&Reply::End(Stream::Stdout));
                self.finish_if_done(replies)
            }
            Ok(count) => {
                // It was asked for no more than there is credit for.
                if self.sent.sent(count).is_ok() {
                    replies.send_read(Stream::Stdout, count);
                }
                Flow::Open
            }
            Err(error) => self.failed(&error, replies),
        }
    }

    fn write(&mut self, replies: &mut Replies<'_>) -> Flow {
        let (consumed, written) = self.waiting.write(&self.stream);
        if let Err(error) = written {
            return self.failed(&error, replies);
        }
        if let Some(credit) = self.received.consumed(consumed) {
            replies.send(&Reply::Credit(credit));
        }
        if self.host_ended && self.waiting.is_empty() && !self.end_passed_on {
            self.end_passed_on = true;
            // It fails when the other side is gone, which reading tells.
            let _ = self.stream.shutdown(Shutdown::Write);
        }
        self.finish_if_done(replies)
    }

    fn finish_if_done(&self, replies: &mut Replies<'_>) -> Flow {
        if self.end_passed_on && self.guest_ended {
            return replies.finish(&Reply::Done);
        }
        Flow::Open
    }

    fn failed(&self, error: &io::Error, replies: &mut Replies<'_>) -> Flow {
        use io::ErrorKind::{Interrupted, WouldBlock};
        if matches!(error.kind(), WouldBlock | Interrupted) {
            return Flow::Open;
        }
        let what = format_args!("the connection to port {} of the guest broke", self.port);
        replies.finish(&Reply::Failed(io_failure(what, error)))
    }
}

impl Channel for Connection {
    fn receive(
        &mut self,
        request: Request,
        _length: usize,
        replies: &mut Replies<'_>,
    ) -> Result<Flow, ProtocolError> {
        match request {
            Request::Data(_) | Request::End if self.host_ended => {
                return Err(ProtocolError::Malformed("a stream goes on after its end"));
            }
            Request::Data(bytes) => {
                self.received.received(bytes.len())?;
                self.waiting.push(bytes);
            }
            Request::End => self.host_ended = true,
            Request::Credit(Stream::Stdout, bytes) => {
                self.sent.credit(bytes)?;
                return Ok(Flow::Open);
            }
            Request::Close => {
                let message = "the connection was closed by the host";
                return Ok(replies.finish(&failed(FailureKind::Other, message)));
            }
            _ => return Err(ProtocolError::Malformed("that is not said to a connection")),
        }
        Ok(if self.others.is_none() { self.write(replies) } else { Flow::Open })
    }

    fn watch(&self, room: bool, watch: &mut dyn FnMut(BorrowedFd<'_>, Events, Stream)) {
        if self.others.is_some() || !self.waiting.is_empty() {
            watch(self.stream.as_fd(), Events::WRITE, Stream::Stdin);
        }
        if self.others.is_none() && room && !self.guest_ended && self.sent.available() > 0 {
            watch(self.stream.as_fd(), Events::READ, Stream::Stdout);
        }
    }

    fn ready(&mut self, stream: Stream, replies: &mut Replies<'_>) -> Flow {
        match stream {
            Stream::Stdin if self.others.is_some() => self.attempted(replies),
            Stream::Stdin => self.write(replies),
            Stream::Stdout | Stream::Stderr => self.read(replies),
        }
    }
}

/// Begins to connect to the next address at which that is not refused at once; where there is
/// none, the last `error` stands.
fn next(
    addresses: &mut VecDeque<IpAddr>,
    port: u16,
    mut error: io::Error,
) -> io::Result<TcpStream> {
    while let Some(address) = addresses.pop_front() {
        match socket::connect(SocketAddr::new(address, port)) {
            Ok(stream) => return Ok(stream),
            // A kernel without IPv6 does not say anything about who listens.
            Err(_) if address.is_ipv6() => {}
            Err(other) => error = other,
        }
    }
    Err(error)
}

fn refusal(port: u16, error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::ConnectionRefused {
        let message = format_args!("nobody listens on port {port} of the guest");
        return failure(FailureKind::ConnectionRefused, message);
    }
    io_failure(format_args!("cannot connect to port {port} of the guest"), error)
}
