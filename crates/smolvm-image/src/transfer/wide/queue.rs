//! [`Queue`]: the chunks of a file that several connections fetch, in order, and hand over to the
//! one who puts them together.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Deref, Range};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::cancel::{CancelToken, POLL};

/// Chunks of one size, up to the end of a file, counted from where the queue begins.
#[derive(Debug)]
pub(super) struct Queue {
    begin: u64,
    end: u64,
    chunk: u64,
    /// How many chunks may be on their way or waiting, those that are read next among them: what
    /// bounds the memory.
    window: u64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The first chunk that nobody has claimed yet, but for those given back.
    next: u64,
    given_back: BTreeSet<u64>,
    arrived: BTreeMap<u64, Vec<u8>>,
    /// Memory of chunks that have been read, for the next ones: new memory costs a page fault for
    /// each of its pages.
    spare: Vec<Vec<u8>>,
    /// The chunk that is read now.
    front: u64,
    workers: usize,
    /// Nothing is claimed any more.
    ended: bool,
}

/// Somebody who claims chunks. However that ends, the reader does not wait for it any longer.
#[derive(Debug)]
pub(super) struct Worker(Arc<Queue>);

impl Deref for Worker {
    type Target = Queue;

    fn deref(&self) -> &Queue {
        &self.0
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.state().workers -= 1;
        self.changed.notify_all();
    }
}

/// What the reader finds where the next chunk should be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Front {
    Arrived(Vec<u8>),
    /// Nobody has it, and nobody will fetch it.
    Abandoned,
    Cancelled,
}

impl Queue {
    pub(super) fn new(bytes: Range<u64>, chunk: u64, window: u64) -> Self {
        Self {
            begin: bytes.start,
            end: bytes.end,
            chunk: chunk.max(1),
            window,
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Where the first chunk begins.
    pub(super) fn begin(&self) -> u64 {
        self.begin
    }

    /// The chunk that has the byte at a position.
    pub(super) fn chunk_at(&self, position: u64) -> u64 {
        position.saturating_sub(self.begin) / self.chunk
    }

    /// Whether nobody fetches anything and nothing has arrived.
    pub(super) fn is_abandoned(&self) -> bool {
        let state = self.state();
        state.workers == 0 && state.arrived.is_empty()
    }

    /// The bytes of a chunk.
    pub(super) fn range(&self, chunk: u64) -> Range<u64> {
        let start = self.end.min(self.begin + chunk * self.chunk);
        start..self.end.min(start + self.chunk)
    }

    fn count(&self) -> u64 {
        (self.end - self.begin).div_ceil(self.chunk)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts somebody in who will claim chunks, as long as the value lives.
    pub(super) fn enter(self: &Arc<Self>) -> Worker {
        self.state().workers += 1;
        Worker(Arc::clone(self))
    }

    /// The next chunk to fetch; waits until it is near enough to what is read. `None` where there
    /// is no more to do.
    pub(super) fn claim(&self, cancel: &CancelToken) -> Option<u64> {
        let mut state = self.state();
        loop {
            if state.ended || cancel.is_cancelled() {
                return None;
            }
            if let Some(chunk) = state.given_back.pop_first() {
                return Some(chunk);
            }
            if state.next >= self.count() {
                // One that is on its way may still be given back: its worker claims it anew.
                return None;
            }
            if state.next < state.front + self.window {
                state.next += 1;
                return Some(state.next - 1);
            }
            state = self.wait(state);
        }
    }

    /// Memory for the bytes of a chunk.
    pub(super) fn memory(&self) -> Vec<u8> {
        self.state().spare.pop().unwrap_or_default()
    }

    /// Takes memory back.
    pub(super) fn recycle(&self, memory: Vec<u8>) {
        self.state().spare.push(memory);
    }

    pub(super) fn arrived(&self, chunk: u64, bytes: Vec<u8>) {
        self.state().arrived.insert(chunk, bytes);
        self.changed.notify_all();
    }

    pub(super) fn give_back(&self, chunk: u64) {
        self.state().given_back.insert(chunk);
        self.changed.notify_all();
    }

    /// Waits for a chunk, the next one that is read. Others come near enough by it.
    pub(super) fn take(&self, chunk: u64, cancel: &CancelToken) -> Front {
        let mut state = self.state();
        state.front = chunk;
        self.changed.notify_all();
        loop {
            if let Some(bytes) = state.arrived.remove(&chunk) {
                return Front::Arrived(bytes);
            }
            if cancel.is_cancelled() {
                return Front::Cancelled;
            }
            if state.workers == 0 {
                return Front::Abandoned;
            }
            state = self.wait(state);
        }
    }

    /// From now on nothing is claimed; what is on its way still arrives.
    pub(super) fn end(&self) {
        self.state().ended = true;
        self.changed.notify_all();
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait_timeout(state, POLL).unwrap_or_else(PoisonError::into_inner).0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_claimed_in_order_and_those_given_back_first() {
        let cancel = CancelToken::new();
        let queue = Arc::new(Queue::new(100..135, 10, 9));
        let worker = queue.enter();
        assert_eq!(queue.range(3), 130..135);
        assert_eq!((queue.chunk_at(100), queue.chunk_at(119)), (0, 1));
        assert_eq!(queue.claim(&cancel), Some(0));
        assert_eq!((queue.claim(&cancel), queue.claim(&cancel)), (Some(1), Some(2)));
        queue.give_back(1);
        assert_eq!((queue.claim(&cancel), queue.claim(&cancel)), (Some(1), Some(3)));
        assert_eq!(queue.claim(&cancel), None);
        queue.arrived(1, vec![1]);
        assert_eq!(queue.take(1, &cancel), Front::Arrived(vec![1]));
        drop(worker);
        assert_eq!(queue.take(2, &cancel), Front::Abandoned);
    }

    #[test]
    fn nobody_fetches_far_ahead_of_what_is_read() {
        let cancel = CancelToken::new();
        let queue = Queue::new(0..100, 10, 2);
        assert_eq!((queue.claim(&cancel), queue.claim(&cancel)), (Some(0), Some(1)));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| queue.claim(&cancel));
            queue.arrived(1, Vec::new());
            assert_eq!(queue.take(1, &cancel), Front::Arrived(Vec::new()));
            assert_eq!(waiting.join().unwrap(), Some(2));
        });
        cancel.cancel();
        assert_eq!(queue.claim(&cancel), None);
    }
}
