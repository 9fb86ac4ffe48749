//! Waiting for a condition, for good or until a deadline.

use std::sync::{Condvar, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Waits until somebody notifies; `None` once the deadline has passed.
pub(super) fn wait_on<'a, T>(
    condition: &Condvar,
    guard: MutexGuard<'a, T>,
    deadline: Option<Instant>,
) -> Option<MutexGuard<'a, T>> {
    let Some(deadline) = deadline else {
        return Some(condition.wait(guard).unwrap_or_else(PoisonError::into_inner));
    };
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return None;
    }
    Some(condition.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0)
}

/// The time `after` from now; `None`, which is for good, where no clock reaches so far.
pub(super) fn deadline(after: Duration) -> Option<Instant> {
    Instant::now().checked_add(after)
}
