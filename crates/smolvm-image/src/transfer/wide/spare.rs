//! [`Spare`]: connections that files of an image do not need any more, for those still on their way.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Connections that nobody uses. However they are shared out, there are never more at once than
/// all files of the image have of their own.
#[derive(Debug, Default)]
pub(crate) struct Spare(AtomicUsize);

impl Spare {
    /// Gives those of a file that is done to the others.
    pub(crate) fn give(&self, count: u8) {
        self.0.fetch_add(count.into(), Ordering::Relaxed);
    }

    /// Takes all that there are.
    pub(super) fn take(&self) -> usize {
        self.0.swap(0, Ordering::Relaxed)
    }
}
