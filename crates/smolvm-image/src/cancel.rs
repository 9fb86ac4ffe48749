//! A flag that ends a running fetch, looked at between reads and while waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long anything may go without looking at the flag.
pub(crate) const POLL: Duration = Duration::from_millis(50);

/// Ends the fetches it was given to, from any thread or from a signal handler.
///
/// A cancelled fetch returns [`ImageError::Cancelled`](crate::ImageError::Cancelled) within a
/// quarter of a second; the bytes that arrived are kept and the next fetch continues from them.
///
/// ```
/// let cancel = smolvm_image::CancelToken::new();
/// assert!(!cancel.is_cancelled());
/// cancel.clone().cancel();
/// assert!(cancel.is_cancelled());
/// ```
#[derive(Debug, Clone, Default)]
pub struct CancelToken {
    flag: Arc<AtomicBool>,
    parent: Option<Arc<CancelToken>>,
}

impl CancelToken {
    /// A token that is not cancelled.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks every fetch that has a clone of this token to end.
    pub fn cancel(&self) {
        self.flag.store(true, Ordering::Relaxed);
    }

    /// Whether [`cancel`](Self::cancel) was called.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.flag.load(Ordering::Relaxed)
            || self.parent.as_ref().is_some_and(|parent| parent.is_cancelled())
    }

    /// A token that is cancelled with this one, and can be cancelled alone.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { flag: Arc::default(), parent: Some(Arc::new(self.clone())) }
    }

    /// Sleeps for `duration`, or until cancelled; says whether it slept to the end.
    pub(crate) fn sleep(&self, duration: Duration) -> bool {
        let start = Instant::now();
        loop {
            if self.is_cancelled() {
                return false;
            }
            let left = duration.saturating_sub(start.elapsed());
            if left.is_zero() {
                return true;
            }
            std::thread::sleep(left.min(POLL));
        }
    }
}

/// For signal handlers, which set a flag and nothing else.
impl From<Arc<AtomicBool>> for CancelToken {
    fn from(flag: Arc<AtomicBool>) -> Self {
        Self { flag, parent: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_ends_with_its_parent_and_alone() {
        let parent = CancelToken::new();
        let (one, other) = (parent.child(), parent.child());
        one.cancel();
        assert!(one.is_cancelled() && !other.is_cancelled() && !parent.is_cancelled());
        parent.cancel();
        assert!(other.is_cancelled());
        assert!(!other.sleep(Duration::from_mins(1)), "a cancelled sleep ends at once");
    }
}
