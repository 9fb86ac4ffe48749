//! A client: somebody who speaks the protocol with the supervisor as if it were the guest.

use std::collections::HashMap;
use std::io;
use std::os::unix::net::UnixStream;

use smolvm_protocol::{
    Decoder, Failure, FailureKind, Frame, Nonce, Preamble, Reply, Request, SESSION_CHANNEL,
    Scanner, Side,
};

use super::channel::{Channels, ClientId};
use super::outgoing::Outgoing;

/// A connection to `agent.sock`.
pub(super) struct Client {
    pub(super) socket: UnixStream,
    pub(super) outgoing: Outgoing,
    phase: Phase,
    decoder: Decoder,
    /// The numbers of its open channels, here and in the guest.
    numbers: HashMap<u32, u32>,
}

/// How far a client is.
enum Phase {
    /// It has not said what it wants.
    Greeting(Scanner),
    /// It waits for the guest.
    Waiting(Nonce),
    /// It speaks with the guest.
    Open,
    /// It gets what is still to be written, and no more.
    Closing,
}

impl Client {
    pub(super) fn new(socket: UnixStream) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            outgoing: Outgoing::default(),
            phase: Phase::Greeting(Scanner::for_host()),
            decoder: Decoder::default(),
            numbers: HashMap::new(),
        })
    }

    /// Whether anything that it says is heard now.
    pub(super) fn is_heard(&self) -> bool {
        matches!(self.phase, Phase::Greeting(_) | Phase::Open)
    }

    /// Whether it has not said what it wants, which costs the guest nothing.
    pub(super) fn is_greeting(&self) -> bool {
        matches!(self.phase, Phase::Greeting(_))
    }

    /// Whether it is to be forgotten.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Closing) && self.outgoing.is_empty()
    }

    /// Whether it waits for the guest.
    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.phase, Phase::Waiting(_))
    }

    /// Takes in what it has said.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        match &mut self.phase {
            Phase::Greeting(scanner) => match scanner.push(bytes) {
                Ok(Some((preamble, rest))) => {
                    self.phase = Phase::Waiting(preamble.nonce);
                    self.decoder.push(&rest);
                }
                Ok(None) => {}
                Err(_) => self.phase = Phase::Closing,
            },
            Phase::Open | Phase::Waiting(_) => self.decoder.push(bytes),
            Phase::Closing => {}
        }
    }

    /// Tells it that the guest is there, with this frame as the guest's welcome.
    pub(super) fn welcome(&mut self, frame: &[u8]) {
        if let Phase::Waiting(nonce) = self.phase {
            self.outgoing.end().extend_from_slice(&Preamble::new(Side::Guest, nonce).encode());
            self.outgoing.end().extend_from_slice(frame);
            self.phase = Phase::Open;
        }
    }

    /// Passes on what it has said, to `guest`.
    pub(super) fn forward(&mut self, id: ClientId, channels: &mut Channels, guest: &mut Vec<u8>) {
        while matches!(self.phase, Phase::Open) {
            let outcome = match self.decoder.next_frame() {
                Ok(None) => return,
                Ok(Some(frame)) => {
                    let mut sender = Sender {
                        id,
                        numbers: &mut self.numbers,
                        answers: &mut self.outgoing,
                        channels,
                        guest,
                    };
                    sender.pass(&frame)
                }
                Err(error) => Err(error.to_string()),
            };
            if let Err(why) = outcome {
                self.dismiss(&format!("the client broke the protocol: {why}"));
            }
        }
    }

    /// Tells it why there is nothing more to come: as the last word on each of its channels, or
    /// in place of the welcome.
    pub(super) fn dismiss(&mut self, why: &str) {
        let failed = failure(FailureKind::Other, why);
        match self.phase {
            // It is told once it can understand it.
            Phase::Greeting(_) => return,
            Phase::Closing => {}
            Phase::Waiting(_) => {
                let mut refusal = Vec::new();
                failed.encode(SESSION_CHANNEL, &mut refusal);
                self.welcome(&refusal);
            }
            Phase::Open => {
                for &number in self.numbers.keys() {
                    failed.encode(number, self.outgoing.end());
                }
                failed.encode(SESSION_CHANNEL, self.outgoing.end());
            }
        }
        self.phase = Phase::Closing;
    }

    /// Gives it a reply of the guest's, under its own number of the channel.
    pub(super) fn reply(&mut self, number: u32, frame: &Frame<'_>) {
        Frame { channel: number, ..*frame }.encode(self.outgoing.end());
        if Reply::frame_is_final(frame) {
            self.numbers.remove(&number);
        }
    }

    /// The numbers of its open channels in the guest.
    pub(super) fn channels(&self) -> impl Iterator<Item = u32> {
        self.numbers.values().copied()
    }
}

/// Passes on what one client says.
struct Sender<'a> {
    id: ClientId,
    numbers: &'a mut HashMap<u32, u32>,
    answers: &'a mut Outgoing,
    channels: &'a mut Channels,
    guest: &'a mut Vec<u8>,
}

impl Sender<'_> {
    /// Passes on one frame. What the agent would take for a broken protocol is refused here,
    /// since it would cost all clients their session.
    fn pass(&mut self, frame: &Frame<'_>) -> Result<(), String> {
        let request = Request::decode(frame).map_err(|error| error.to_string())?;
        let channel = if request.is_opener() {
            match self.open(frame.channel)? {
                Some(channel) => channel,
                None => return Ok(()),
            }
        } else {
            // The channel's last reply may have been on its way when this was said.
            let Some(&channel) = self.numbers.get(&frame.channel) else { return Ok(()) };
            channel
        };
        if let Some(open) = self.channels.get_mut(channel) {
            open.count_request(&request, frame).map_err(|error| error.to_string())?;
        }
        Frame { channel, ..*frame }.encode(self.guest);
        Ok(())
    }

    /// Opens a channel. `None` where the client was told that there are too many.
    fn open(&mut self, number: u32) -> Result<Option<u32>, String> {
        if number == SESSION_CHANNEL || self.numbers.contains_key(&number) {
            return Err(format!("the channel {number} is in use"));
        }
        let channel = self.channels.open(self.id, number);
        match channel {
            Some(channel) => drop(self.numbers.insert(number, channel)),
            None => failure(FailureKind::Limit, "too many commands run in this VM at once")
                .encode(number, self.answers.end()),
        }
        Ok(channel)
    }
}

fn failure(kind: FailureKind, message: &str) -> Reply {
    Reply::Failed(Failure { kind, message: message.into() })
}
