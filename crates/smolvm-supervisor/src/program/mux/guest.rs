//! The session with the agent in the guest, which is believed nothing.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::net::UnixStream;

use smolvm_protocol::{
    Decoder, Frame, Nonce, Preamble, ProtocolError, Reply, SESSION_CHANNEL, Scanner, Side,
    Succession,
};

use super::outgoing::Outgoing;

/// The host's end of the agent's channel.
pub(super) struct Guest {
    pub(super) socket: UnixStream,
    pub(super) outgoing: Outgoing,
    phase: Phase,
    /// What tells the session from all others.
    pub(super) nonce: Nonce,
}

/// How far the session is.
enum Phase {
    /// The guest has not answered. Whatever else comes is from its past.
    Awaited(Scanner),
    /// It has answered; its frames come.
    Open(Session),
}

#[derive(Default)]
struct Session {
    decoder: Decoder,
    /// The frame by which it said who it is.
    welcome: Option<Vec<u8>>,
}

/// What the guest has sent, or its end.
pub(super) enum Heard {
    /// So many bytes.
    Bytes(usize),
    /// Nothing for now.
    Nothing,
    /// The VMM has closed the channel.
    End,
}

impl Guest {
    /// Begins a session with whoever is or will be at the other end; with a guest that goes on from
    /// a snapshot, in place of the session that has the nonce of `succeeds`.
    pub(super) fn new(socket: UnixStream, succeeds: Option<Nonce>) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let mut nonce = Nonce::default();
        File::open("/dev/urandom")?.read_exact(&mut nonce)?;
        let mut outgoing = Outgoing::default();
        if let Some(nonce) = succeeds {
            outgoing.end().extend_from_slice(&Succession { nonce }.encode());
        }
        outgoing.end().extend_from_slice(&Preamble::new(Side::Host, nonce).encode());
        let phase = Phase::Awaited(Scanner::for_guest(nonce));
        Ok(Self { socket, outgoing, phase, nonce })
    }

    /// The frame by which the guest said who it is, once it has.
    pub(super) fn welcome(&self) -> Option<&[u8]> {
        match &self.phase {
            Phase::Open(session) => session.welcome.as_deref(),
            Phase::Awaited(_) => None,
        }
    }

    /// Reads what there is, into `buffer`.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Heard {
        match self.socket.read(buffer) {
            Ok(0) => Heard::End,
            Ok(count) => Heard::Bytes(count),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Heard::Nothing,
                _ => Heard::End,
            },
        }
    }

    /// Takes in what was read.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), ProtocolError> {
        match &mut self.phase {
            Phase::Awaited(scanner) => {
                if let Some((_, rest)) = scanner.push(bytes)? {
                    let mut session = Session::default();
                    session.decoder.push(&rest);
                    self.phase = Phase::Open(session);
                }
            }
            Phase::Open(session) => session.decoder.push(bytes),
        }
        Ok(())
    }

    /// The next frame after the welcome.
    pub(super) fn next_frame(&mut self) -> Result<Option<Frame<'_>>, ProtocolError> {
        let Phase::Open(Session { decoder, welcome }) = &mut self.phase else {
            return Ok(None);
        };
        if welcome.is_none() {
            let Some(frame) = decoder.next_frame()? else { return Ok(None) };
            if frame.channel != SESSION_CHANNEL
                || !matches!(Reply::decode(&frame)?, Reply::Welcome(_))
            {
                return Err(ProtocolError::Malformed("it does not begin with a welcome"));
            }
            let mut bytes = Vec::new();
            frame.encode(&mut bytes);
            *welcome = Some(bytes);
        }
        decoder.next_frame()
    }
}
