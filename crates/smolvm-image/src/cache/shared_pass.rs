//! One pass over a file for all callers in this process that want it hashed at the same moment.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use smolvm_fork::ForkMutex;

use super::file_state::FileState;
use crate::cancel::{CancelToken, POLL};
use crate::digest::Digest;

/// The digest of a file and its size in bytes; `None` where cancelled.
pub(super) type Hashed = io::Result<Option<(Digest, u64)>>;

/// A pass that is under way.
#[derive(Default)]
struct Pass {
    end: Mutex<Option<End>>,
    ended: Condvar,
}

/// How a pass ended for those who wait for it.
#[derive(Clone, Copy)]
enum End {
    Hashed(Digest, u64),
    /// It failed, was cancelled, or the file has changed meanwhile: everybody for themselves.
    Nothing,
}

/// By the process and the state in which all of them have found the file. Who finds it in another
/// one has another file, or a changed one; and a forked child has none of the threads at work.
static PASSES: ForkMutex<BTreeMap<(u32, FileState), Arc<Pass>>> = ForkMutex::new(BTreeMap::new());

/// Hashes a file, or waits for somebody who is just doing it. `state` must be such that a change
/// from now on shows, and `state_now` looks at it again.
pub(super) fn share(
    state: FileState,
    state_now: impl Fn() -> Option<FileState>,
    cancel: &CancelToken,
    hash: impl FnOnce() -> Hashed,
) -> Hashed {
    let pass = loop {
        match join(state) {
            Turn::Lead(pass) => break pass,
            Turn::Wait(pass) => match wait(&pass, cancel) {
                None => return Ok(None),
                Some(End::Hashed(digest, size)) => return Ok(Some((digest, size))),
                Some(End::Nothing) => {}
            },
        }
    };
    let mut leader = Leader { state, pass, end: End::Nothing };
    let hashed = hash();
    if let Ok(Some((digest, size))) = hashed
        && state_now() == Some(state)
    {
        leader.end = End::Hashed(digest, size);
    }
    hashed
}

enum Turn {
    Lead(Arc<Pass>),
    Wait(Arc<Pass>),
}

fn join(state: FileState) -> Turn {
    let key = (std::process::id(), state);
    let mut passes = PASSES.lock();
    if let Some(pass) = passes.get(&key) {
        return Turn::Wait(Arc::clone(pass));
    }
    let pass = Arc::<Pass>::default();
    passes.insert(key, Arc::clone(&pass));
    Turn::Lead(pass)
}

/// `None` where cancelled.
fn wait(pass: &Pass, cancel: &CancelToken) -> Option<End> {
    let mut end = pass.end.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        if let Some(end) = *end {
            return Some(end);
        }
        if cancel.is_cancelled() {
            return None;
        }
        end = pass.ended.wait_timeout(end, POLL).unwrap_or_else(PoisonError::into_inner).0;
    }
}

/// Who hashes for all. However that ends, those who wait hear of it.
struct Leader {
    state: FileState,
    pass: Arc<Pass>,
    end: End,
}

impl Drop for Leader {
    fn drop(&mut self) {
        drop(PASSES.lock().remove(&(std::process::id(), self.state)));
        *self.pass.end.lock().unwrap_or_else(PoisonError::into_inner) = Some(self.end);
        self.pass.ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;
    use std::time::Duration;

    use super::*;

    /// The state of a file that nobody else has.
    fn state_of(file: &std::fs::File) -> FileState {
        FileState::of(&rustix::fs::fstat(file).unwrap())
    }

    #[test]
    fn who_asks_at_the_same_moment_waits_for_the_pass_under_way() {
        let file = tempfile::tempfile().unwrap();
        let state = state_of(&file);
        let (cancel, passes) = (CancelToken::new(), AtomicUsize::new(0));
        let ask = || {
            share(
                state,
                || Some(state),
                &cancel,
                || {
                    passes.fetch_add(1, Ordering::SeqCst);
                    thread::sleep(Duration::from_millis(200));
                    Ok(Some((Digest::of(b"x"), 1)))
                },
            )
        };
        thread::scope(|scope| {
            let all: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
            for one in all {
                assert_eq!(one.join().unwrap().unwrap(), Some((Digest::of(b"x"), 1)));
            }
        });
        assert_eq!(passes.into_inner(), 1);
    }

    #[test]
    fn a_failed_or_cancelled_pass_is_nobody_elses() {
        let file = tempfile::tempfile().unwrap();
        let state = state_of(&file);
        let cancel = CancelToken::new();
        let first = AtomicUsize::new(0);
        thread::scope(|scope| {
            let ask = || {
                share(
                    state,
                    || Some(state),
                    &cancel,
                    || {
                        thread::sleep(Duration::from_millis(100));
                        match first.fetch_add(1, Ordering::SeqCst) {
                            0 => Ok(None),
                            1 => Err(io::Error::other("broken")),
                            _ => Ok(Some((Digest::of(b"x"), 1))),
                        }
                    },
                )
            };
            let all: Vec<_> = (0..5).map(|_| scope.spawn(ask)).collect();
            let ends: Vec<_> = all.into_iter().map(|one| one.join().unwrap()).collect();
            assert_eq!(ends.iter().filter(|end| end.is_err()).count(), 1);
            assert_eq!(ends.iter().filter(|end| matches!(end, Ok(None))).count(), 1);
            assert_eq!(ends.iter().filter(|end| matches!(end, Ok(Some(_)))).count(), 3);
        });
    }

    #[test]
    fn what_has_changed_during_a_pass_is_hashed_again() {
        let file = tempfile::tempfile().unwrap();
        let state = state_of(&file);
        let cancel = CancelToken::new();
        let passes = AtomicUsize::new(0);
        thread::scope(|scope| {
            let ask = || {
                share(
                    state,
                    || None,
                    &cancel,
                    || {
                        passes.fetch_add(1, Ordering::SeqCst);
                        thread::sleep(Duration::from_millis(100));
                        Ok(Some((Digest::of(b"x"), 1)))
                    },
                )
            };
            for one in [scope.spawn(ask), scope.spawn(ask)] {
                assert!(one.join().unwrap().is_ok());
            }
        });
        assert_eq!(passes.into_inner(), 2);
    }
}
