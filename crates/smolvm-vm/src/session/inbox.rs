//! [`Inbox`]: what a guest has sent on one stream and nobody has taken yet, held within the
//! stream's window.

use std::collections::VecDeque;

use smolvm_protocol::{Entry, ProtocolError, ReceiveWindow, WINDOW};

/// What came on one stream of a channel.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    items: VecDeque<Item>,
    /// How much of the first item was taken already.
    taken: usize,
    window: ReceiveWindow,
    /// How much may come although nobody has taken what came before.
    room: usize,
    ended: bool,
    discards: bool,
}

/// A piece of a stream.
#[derive(Debug)]
pub(super) enum Item {
    /// Bytes, never none.
    Data(Vec<u8>),
    /// The next file of a copy, and what it takes of the window.
    Entry(Entry, usize),
}

impl Inbox {
    /// Pieces are joined up to this size, so that a stream that comes byte by byte takes no more
    /// memory than its bytes.
    const JOINED: usize = 64 * 1024;

    /// Takes in a piece that takes `cost` bytes of the window. Returns the credit to grant for
    /// what is thrown away.
    pub(super) fn receive(
        &mut self,
        item: Item,
        cost: usize,
    ) -> Result<Option<u32>, ProtocolError> {
        if self.ended {
            return Err(ProtocolError::Malformed("a stream goes on after its end"));
        }
        self.window.received(cost)?;
        if self.discards {
            return Ok(self.window.consumed(cost));
        }
        let roomy = cost.min(self.room);
        self.room -= roomy;
        match (self.items.back_mut(), item) {
            (_, Item::Data(bytes)) if bytes.is_empty() => {}
            (Some(Item::Data(last)), Item::Data(bytes))
                if last.len() + bytes.len() <= Self::JOINED =>
            {
                last.extend_from_slice(&bytes);
            }
            (_, item) => self.items.push_back(item),
        }
        Ok(if roomy > 0 { self.window.consumed(roomy) } else { None })
    }

    /// Holds one more window than it did, so that more than a pipe's worth still comes if nobody
    /// takes anything any more. Returns the credit to grant for that.
    pub(super) fn make_room(&mut self) -> Option<u32> {
        const MORE: usize = WINDOW as usize;
        self.room = MORE;
        self.window.consumed(MORE)
    }

    /// The other side says that nothing more comes.
    pub(super) fn end(&mut self) -> Result<(), ProtocolError> {
        if std::mem::replace(&mut self.ended, true) {
            return Err(ProtocolError::Malformed("a stream ends twice"));
        }
        Ok(())
    }

    /// Whether the stream has ended and all of it was taken.
    pub(super) fn is_over(&self) -> bool {
        self.ended && self.items.is_empty()
    }

    /// The next piece, and the credit to grant for it.
    pub(super) fn take(&mut self) -> Option<(Item, Option<u32>)> {
        let taken = std::mem::take(&mut self.taken);
        match self.items.pop_front()? {
            Item::Data(mut bytes) => {
                bytes.drain(..taken);
                let credit = self.window.consumed(bytes.len());
                Some((Item::Data(bytes), credit))
            }
            Item::Entry(entry, cost) => {
                let credit = self.window.consumed(cost);
                Some((Item::Entry(entry, cost), credit))
            }
        }
    }

    /// Fills `buffer` from the bytes at the front. Returns how many there were, and the credit to
    /// grant for them.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Option<(usize, Option<u32>)> {
        let Some(Item::Data(bytes)) = self.items.front() else {
            return None;
        };
        let rest = &bytes[self.taken..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.taken += count;
        if self.taken == bytes.len() {
            self.items.pop_front();
            self.taken = 0;
        }
        Some((count, self.window.consumed(count)))
    }

    /// Throws away what is there and what is still to come. Returns the credit to grant for it.
    pub(super) fn discard(&mut self) -> Option<u32> {
        self.discards = true;
        let mut held = 0;
        for item in self.items.drain(..) {
            held += match item {
                Item::Data(bytes) => bytes.len(),
                Item::Entry(_, cost) => cost,
            };
        }
        let held = held - std::mem::take(&mut self.taken);
        self.window.consumed(held)
    }
}

#[cfg(test)]
impl Inbox {
    /// The bytes that nobody has taken yet.
    pub(super) fn held(&self) -> usize {
        let bytes = |item: &Item| if let Item::Data(bytes) = item { bytes.len() } else { 0 };
        self.items.iter().map(bytes).sum::<usize>() - self.taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_by_byte_takes_no_more_memory_than_its_bytes() {
        let mut inbox = Inbox::default();
        for _ in 0..WINDOW {
            assert_eq!(inbox.receive(Item::Data(vec![7]), 1), Ok(None));
        }
        assert_eq!(inbox.items.len(), WINDOW as usize / Inbox::JOINED);
        assert_eq!(inbox.receive(Item::Data(vec![7]), 1), Err(ProtocolError::Overrun));
    }

    #[test]
    fn nothing_is_not_kept() {
        let mut inbox = Inbox::default();
        for _ in 0..1000 {
            assert_eq!(inbox.receive(Item::Data(Vec::new()), 0), Ok(None));
        }
        assert!(inbox.items.is_empty());
    }

    #[test]
    fn credit_is_granted_for_what_was_taken() {
        let mut inbox = Inbox::default();
        let window = WINDOW as usize;
        for _ in 0..8 {
            inbox.receive(Item::Data(vec![7; window / 8]), window / 8).unwrap();
        }
        let mut buffer = vec![0; window / 4];
        assert_eq!(inbox.read(&mut buffer[..1]), Some((1, None)));
        let mut granted = 0;
        let mut got = 1;
        while let Some((count, credit)) = inbox.read(&mut buffer) {
            granted += credit.unwrap_or(0);
            got += count;
        }
        assert_eq!((got, granted), (window, WINDOW));
    }

    #[test]
    fn room_is_made_for_one_more_window() {
        let mut inbox = Inbox::default();
        let window = WINDOW as usize;
        inbox.receive(Item::Data(vec![7; window]), window).unwrap();
        let mut credit = inbox.make_room().unwrap();
        for _ in 0..20 {
            let more = std::mem::take(&mut credit) as usize;
            credit = inbox.receive(Item::Data(vec![7; more]), more).unwrap().unwrap_or(0);
        }
        assert_eq!(inbox.held(), 3 * window);
        assert_eq!(inbox.read(&mut vec![0; window]).map(|(count, _)| count), Some(window));
    }

    #[test]
    fn what_is_discarded_is_granted_again() {
        let mut inbox = Inbox::default();
        let half = WINDOW as usize / 2;
        inbox.receive(Item::Data(vec![7; half]), half).unwrap();
        assert_eq!(inbox.read(&mut [0; 1]), Some((1, None)));
        assert_eq!(inbox.discard(), Some(WINDOW / 2));
        assert_eq!(inbox.receive(Item::Data(vec![7; half]), half), Ok(Some(WINDOW / 2)));
        assert!(inbox.take().is_none());
    }
}
