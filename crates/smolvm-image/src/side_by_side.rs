//! Running the same work for several items at once, on a thread each.

use std::sync::{Mutex, PoisonError};
use std::thread::{self, ScopedJoinHandle};

use crate::cancel::CancelToken;
use crate::error::ImageError;

/// Runs `work` for every item; the results are in the order of the items. When one fails, the
/// others are cancelled, and the error is that of the first that failed by itself.
pub(crate) fn side_by_side<T: Send, R: Send>(
    items: Vec<T>,
    cancel: &CancelToken,
    work: impl Fn(T, &CancelToken) -> Result<R, ImageError> + Sync,
) -> Result<Vec<R>, ImageError> {
    let siblings = cancel.child();
    let first_error: Mutex<Option<ImageError>> = Mutex::new(None);
    let run = |item: T| match work(item, &siblings) {
        Ok(result) => Some(result),
        Err(error) => {
            let mut first = first_error.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert(error);
            siblings.cancel();
            None
        }
    };
    let results: Vec<Option<R>> = thread::scope(|scope| {
        let threads: Vec<_> = items.into_iter().map(|item| scope.spawn(|| run(item))).collect();
        let joined = threads.into_iter().map(ScopedJoinHandle::join);
        // Only the caller's observer can panic: that goes on in the caller's thread.
        joined.map(|end| end.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    match first_error.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(_) if cancel.is_cancelled() => Err(ImageError::Cancelled),
        Some(error) => Err(error),
        None => Ok(results.into_iter().flatten().collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failure_ends_the_others_and_is_the_error() {
        let cancel = CancelToken::new();
        let error = side_by_side(vec![1, 2, 3], &cancel, |item, cancel| {
            if item == 2 {
                return Err::<(), _>(ImageError::EmptyName);
            }
            while !cancel.is_cancelled() {
                thread::yield_now();
            }
            Err(ImageError::Cancelled)
        });
        assert!(matches!(error, Err(ImageError::EmptyName)));
        assert!(!cancel.is_cancelled(), "the caller's own token is left alone");
    }

    #[test]
    fn results_are_in_order() {
        let squares = side_by_side(vec![3, 1, 2], &CancelToken::new(), |item, _| Ok(item * item));
        assert_eq!(squares.unwrap(), [9, 1, 4]);
    }
}
