//! Waiting for a condition: for good, until a deadline, or until a token is cancelled.

use std::sync::{Condvar, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use smolvm_image::CancelToken;

/// How long a wait that can be cancelled goes without looking at its token.
pub(super) const POLL: Duration = Duration::from_millis(50);

/// Waits until somebody notifies, or it is time to look again; `None` once the deadline has passed
/// or the token is cancelled.
pub(super) fn wait_on<'a, T>(
    condition: &Condvar,
    guard: MutexGuard<'a, T>,
    deadline: Option<Instant>,
    cancel: Option<&CancelToken>,
) -> Option<MutexGuard<'a, T>> {
    if is_cancelled(cancel) {
        return None;
    }
    let poll = cancel.map(|_| POLL);
    let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    let Some(time) = left.into_iter().chain(poll).min() else {
        return Some(condition.wait(guard).unwrap_or_else(PoisonError::into_inner));
    };
    if time.is_zero() {
        return None;
    }
    Some(condition.wait_timeout(guard, time).unwrap_or_else(PoisonError::into_inner).0)
}

pub(super) fn is_cancelled(cancel: Option<&CancelToken>) -> bool {
    cancel.is_some_and(CancelToken::is_cancelled)
}

/// The time `after` from now; `None`, which is for good, where no clock reaches so far.
pub(super) fn deadline(after: Duration) -> Option<Instant> {
    Instant::now().checked_add(after)
}
