//! Flow control: how much of a stream may be on its way.
//!
//! Counted is the payload of every data and entry frame.

use crate::error::ProtocolError;

/// The bytes of a stream that may be on their way before the receiver grants more.
pub const WINDOW: u32 = 256 * 1024;

/// The channels of a session that may be open at once.
pub const MAX_CHANNELS: usize = 1024;

/// The sender's count of what it may still send on a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SendWindow {
    available: u32,
}

/// The receiver's count of what the sender may still send on a stream, and of what has been used
/// up and is not granted again yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceiveWindow {
    available: u32,
    consumed: u32,
}

impl Default for SendWindow {
    fn default() -> Self {
        Self { available: WINDOW }
    }
}

impl Default for ReceiveWindow {
    fn default() -> Self {
        Self { available: WINDOW, consumed: 0 }
    }
}

impl SendWindow {
    /// The bytes that may be sent now.
    #[must_use]
    pub fn available(&self) -> usize {
        usize::try_from(self.available).unwrap_or(usize::MAX)
    }

    /// Counts `length` bytes as sent.
    ///
    /// # Errors
    ///
    /// [`ProtocolError::Overrun`] where that is more than is available.
    pub fn sent(&mut self, length: usize) -> Result<(), ProtocolError> {
        self.available = less(self.available, length)?;
        Ok(())
    }

    /// The receiver grants `bytes` more.
    ///
    /// # Errors
    ///
    /// [`ProtocolError::Overrun`] where that is more than was ever sent.
    pub fn credit(&mut self, bytes: u32) -> Result<(), ProtocolError> {
        self.available = self
            .available
            .checked_add(bytes)
            .filter(|&sum| sum <= WINDOW)
            .ok_or(ProtocolError::Overrun)?;
        Ok(())
    }
}

impl ReceiveWindow {
    /// Counts `length` bytes as received.
    ///
    /// # Errors
    ///
    /// [`ProtocolError::Overrun`] where the sender had no credit for them.
    pub fn received(&mut self, length: usize) -> Result<(), ProtocolError> {
        self.available = less(self.available, length)?;
        Ok(())
    }

    /// Counts `length` received bytes as used up. Returns the credit to grant now, if it is time:
    /// a quarter of the window at once, so that there are few such messages.
    #[must_use]
    pub fn consumed(&mut self, length: usize) -> Option<u32> {
        let outstanding = WINDOW - self.available;
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        self.consumed = self.consumed.saturating_add(length).min(outstanding);
        if self.consumed < WINDOW / 4 {
            return None;
        }
        let credit = core::mem::take(&mut self.consumed);
        self.available += credit;
        Some(credit)
    }
}

fn less(available: u32, length: usize) -> Result<u32, ProtocolError> {
    let length = u32::try_from(length).map_err(|_| ProtocolError::Overrun)?;
    available.checked_sub(length).ok_or(ProtocolError::Overrun)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_up_may_be_sent_again() {
        let (mut sender, mut receiver) = (SendWindow::default(), ReceiveWindow::default());
        let mut total = 0;
        while total < 10 * WINDOW as usize {
            let length = sender.available().min(10_000);
            assert!(length > 0, "after {total}");
            sender.sent(length).unwrap();
            receiver.received(length).unwrap();
            if let Some(credit) = receiver.consumed(length) {
                sender.credit(credit).unwrap();
            }
            total += length;
        }
    }

    #[test]
    fn nobody_sends_or_grants_too_much() {
        let mut receiver = ReceiveWindow::default();
        receiver.received(WINDOW as usize).unwrap();
        assert_eq!(receiver.received(1), Err(ProtocolError::Overrun));
        assert_eq!(SendWindow::default().credit(1), Err(ProtocolError::Overrun));
        assert_eq!(SendWindow::default().sent(usize::MAX), Err(ProtocolError::Overrun));
    }
}
