//! What clients say to the guest, and what it says to them.

use smolvm_protocol::{ProtocolError, Reply, Request, WINDOW};

use super::Mux;
use super::channel::{ClientId, Verdict};
use crate::state::Agent;

/// How many frames on channels that nobody has opened are overlooked.
const MAX_STRAYS: u32 = 10_000;

impl Mux {
    /// Does what a client wants, if the guest is there.
    pub(super) fn attend(&mut self, id: ClientId) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        if let Agent::Lost(why) = self.link.agent() {
            client.dismiss(why);
        } else if let Some(guest) = &mut self.link.guest
            && let Some(welcome) = guest.welcome()
        {
            client.welcome(welcome);
            client.forward(id, &mut self.channels, guest.outgoing.end());
            if !client.is_heard() {
                self.close_channels(id);
            }
        }
    }

    /// Has the guest end what a client wanted.
    pub(super) fn close_channels(&mut self, id: ClientId) {
        let (Some(client), Some(guest)) = (self.clients.get(&id), &mut self.link.guest) else {
            return;
        };
        for number in client.channels() {
            if let Some(channel) = self.channels.get_mut(number)
                && channel.client.take().is_some()
            {
                for credit in channel.replenish(1) {
                    credit.encode(number, guest.outgoing.end());
                }
                Request::Close.encode(number, guest.outgoing.end());
            }
        }
    }

    /// Gives the clients what the guest has said in the first `count` bytes of the buffer.
    pub(super) fn pass_on(&mut self, count: usize) -> Result<(), ProtocolError> {
        let Some(guest) = &mut self.link.guest else { return Ok(()) };
        guest.push(&self.buffer[..count])?;
        let mut credits = Vec::new();
        while let Some(frame) = guest.next_frame()? {
            let Some(channel) = self.channels.get_mut(frame.channel) else {
                self.strays += 1;
                if self.strays > MAX_STRAYS {
                    return Err(ProtocolError::Malformed("it answers what nobody has asked"));
                }
                continue;
            };
            let reply = Reply::decode(&frame)?;
            let verdict = channel.count_reply(&reply, &frame)?;
            match channel.client {
                Some((id, number)) if verdict == Verdict::Pass => {
                    if let Some(client) = self.clients.get_mut(&id) {
                        client.reply(number, &frame);
                    }
                }
                Some(_) => {}
                None => credits
                    .extend(channel.replenish(WINDOW / 4).map(|credit| (frame.channel, credit))),
            }
            if Reply::frame_is_final(&frame) {
                self.channels.close(frame.channel);
            }
        }
        for (channel, credit) in credits {
            credit.encode(channel, guest.outgoing.end());
        }
        if self.link.has_begun() {
            let waiting = self.clients.iter().filter(|(_, client)| client.is_waiting());
            for id in waiting.map(|(&id, _)| id).collect::<Vec<_>>() {
                self.attend(id);
            }
        }
        Ok(())
    }
}
