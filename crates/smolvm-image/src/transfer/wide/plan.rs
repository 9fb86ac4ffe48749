//! [`Plan`]: what several connections are to fetch of a file, and who fetches what.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::ops::{Deref, Range};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::cache::Parts;
use crate::cancel::{CancelToken, POLL};

/// The largest and the smallest piece that a connection is given at once, in bytes. Pieces become
/// smaller towards the end, so that all connections end at the same time.
const LARGEST: u64 = 2 << 20;
const SMALLEST: u64 = 256 << 10;

/// Where pieces begin and end: what a connection writes at once, and whole blocks of the file.
const STEP: u64 = 64 << 10;

/// How far ahead of what is hashed anybody fetches, in bytes: what is nearer is still in memory
/// when it is read for that.
const AHEAD: u64 = 64 << 20;

/// The bytes that are missing from where the plan begins. Each of them is fetched by one connection
/// at a time, and none is written twice.
#[derive(Debug)]
pub(super) struct Plan {
    parts: Arc<Parts>,
    begin: u64,
    smallest: u64,
    state: Mutex<State>,
    /// For those who wait for something to claim, and for the reader.
    claimable: Condvar,
    came: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// What nobody has claimed yet or has given back, in order.
    open: VecDeque<Range<u64>>,
    /// What is claimed and not yet written, by the number of the claim.
    claimed: BTreeMap<u64, Range<u64>>,
    claims: u64,
    /// The byte that is hashed next.
    front: u64,
    workers: u64,
    /// Nothing is claimed any more.
    ended: bool,
    /// Why what has come could not be written.
    failure: Option<io::Error>,
    /// Workers who wait, and the byte that the reader waits for. Nobody else is woken: with many
    /// connections, that would cost more than what they bring.
    idle: usize,
    awaited: Option<u64>,
}

/// A stretch of bytes that one connection fetches. Others may take its end over.
#[derive(Debug)]
pub(super) struct Claim {
    number: u64,
    pub(super) range: Range<u64>,
}

/// Somebody who claims pieces. However that ends, the reader does not wait for it any longer.
#[derive(Debug)]
pub(super) struct Worker(Arc<Plan>);

impl Deref for Worker {
    type Target = Plan;

    fn deref(&self) -> &Plan {
        &self.0
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.state().workers -= 1;
        self.came.notify_all();
    }
}

/// What the reader finds at a position.
#[derive(Debug)]
pub(super) enum Front {
    /// The byte is there.
    There,
    /// Nobody fetches anything any more.
    Abandoned,
    Cancelled,
    /// It could not be written.
    Failed(io::Error),
}

impl Plan {
    /// For what is missing within a range. No piece is smaller than `smallest` bytes, unless less is
    /// missing.
    pub(super) fn new(parts: Arc<Parts>, range: Range<u64>, smallest: u64) -> Self {
        let open = parts.missing(range.clone()).into();
        let smallest = smallest.clamp(SMALLEST, LARGEST);
        let state = State { open, front: range.start, ..State::default() };
        Self {
            parts,
            begin: range.start,
            smallest,
            state: Mutex::new(state),
            claimable: Condvar::new(),
            came: Condvar::new(),
        }
    }

    /// Where it begins.
    pub(super) fn begin(&self) -> u64 {
        self.begin
    }

    /// What there is of the file.
    pub(super) fn parts(&self) -> &Parts {
        &self.parts
    }

    /// Whether nobody fetches anything, and nothing has come of what was to be fetched.
    pub(super) fn is_abandoned(&self) -> bool {
        let state = self.state();
        state.workers == 0 && self.parts.end_at(self.begin).is_none()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts somebody in who will claim pieces, as long as the value lives.
    pub(super) fn enter(self: &Arc<Self>) -> Worker {
        self.state().workers += 1;
        Worker(Arc::clone(self))
    }

    /// The next piece to fetch: one that nobody has, or else the second half of another's. Waits
    /// until it is near enough to what is hashed. `None` where there is no more to do.
    pub(super) fn claim(&self, cancel: &CancelToken) -> Option<Claim> {
        let mut state = self.state();
        loop {
            if state.ended || cancel.is_cancelled() {
                return None;
            }
            let near = state.front + AHEAD;
            if state.open.front().is_some_and(|piece| piece.start < near) {
                let size = self.size(&state);
                let piece = state.take_open(size)?;
                return Some(state.claim(piece));
            }
            if let Some(piece) = state.take_half(2 * self.smallest, near) {
                return Some(state.claim(piece));
            }
            if state.open.is_empty() {
                // One that is on its way may still be given back: the reader sees to that.
                return None;
            }
            state.idle += 1;
            state = wait(&self.claimable, state);
            state.idle -= 1;
        }
    }

    /// The bytes that the next piece has, but for what is missing to a whole [`STEP`].
    fn size(&self, state: &State) -> u64 {
        let open: u64 = state.open.iter().map(|piece| piece.end - piece.start).sum();
        (open / (2 * state.workers).max(1)).clamp(self.smallest, LARGEST)
    }

    /// Bytes that a claim still has to write.
    pub(super) fn left(&self, claim: &Claim) -> u64 {
        let state = self.state();
        state.claimed.get(&claim.number).map_or(0, |range| range.end - range.start)
    }

    /// Writes the next bytes of a claim, as many as nobody else has taken over.
    pub(super) fn write(&self, claim: &Claim, bytes: &[u8]) -> io::Result<()> {
        let granted = {
            let mut state = self.state();
            let Some(range) = state.claimed.get_mut(&claim.number) else { return Ok(()) };
            let granted = range.start..range.end.min(range.start + bytes.len() as u64);
            // From here on nobody takes it over.
            range.start = granted.end;
            granted
        };
        let count = usize::try_from(granted.end - granted.start).unwrap_or(0);
        if count == 0 {
            return Ok(());
        }
        if let Err(error) = self.parts.write(&bytes[..count], granted.start) {
            let copy = io::Error::from(error.kind());
            let mut state = self.state();
            state.failure = Some(error);
            state.ended = true;
            self.wake(&state);
            self.came.notify_all();
            return Err(copy);
        }
        if self.state().awaited.is_some_and(|at| granted.contains(&at)) {
            self.came.notify_all();
        }
        Ok(())
    }

    /// Ends a claim; what is left of it is for others.
    pub(super) fn give_back(&self, claim: &Claim) {
        let mut state = self.state();
        if let Some(range) = state.claimed.remove(&claim.number)
            && !range.is_empty()
        {
            let at = state.open.partition_point(|piece| piece.start < range.start);
            state.open.insert(at, range);
            self.wake(&state);
        }
    }

    /// Tells which byte is hashed next. Pieces come near enough by it.
    pub(super) fn advance(&self, front: u64) {
        let mut state = self.state();
        state.front = front;
        self.wake(&state);
    }

    /// Waits for the byte at a position, the next one that is hashed.
    pub(super) fn wait_for(&self, position: u64, cancel: &CancelToken) -> Front {
        self.advance(position);
        let mut state = self.state();
        loop {
            if self.parts.end_at(position).is_some() {
                return Front::There;
            }
            if let Some(error) = state.failure.take() {
                return Front::Failed(error);
            }
            if cancel.is_cancelled() {
                return Front::Cancelled;
            }
            if state.workers == 0 {
                return Front::Abandoned;
            }
            state.awaited = Some(position);
            state = wait(&self.came, state);
            state.awaited = None;
        }
    }

    /// From now on nothing is claimed; what is on its way still arrives.
    pub(super) fn end(&self) {
        let mut state = self.state();
        state.ended = true;
        self.wake(&state);
    }

    /// Wakes those who wait for something to claim.
    fn wake(&self, state: &State) {
        if state.idle > 0 {
            self.claimable.notify_all();
        }
    }
}

fn wait<'a>(changed: &Condvar, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
    changed.wait_timeout(state, POLL).unwrap_or_else(PoisonError::into_inner).0
}

impl State {
    fn claim(&mut self, range: Range<u64>) -> Claim {
        self.claims += 1;
        self.claimed.insert(self.claims, range.clone());
        Claim { number: self.claims, range }
    }

    /// Takes about `size` bytes of what nobody has.
    fn take_open(&mut self, size: u64) -> Option<Range<u64>> {
        let first = self.open.pop_front()?;
        let end = (first.start + size).next_multiple_of(STEP).min(first.end);
        if end < first.end {
            self.open.push_front(end..first.end);
        }
        Some(first.start..end)
    }

    /// Takes the second half of the claim of which the most is left, if that is enough for two.
    fn take_half(&mut self, enough: u64, near: u64) -> Option<Range<u64>> {
        let claimed = self.claimed.values_mut().filter(|range| range.start < near);
        let longest = claimed.max_by_key(|range| range.end - range.start)?;
        let left = longest.end - longest.start;
        let middle = (longest.start + left / 2).next_multiple_of(STEP);
        if left < enough || middle >= longest.end {
            return None;
        }
        let half = middle..longest.end;
        longest.end = middle;
        Some(half)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{Key, Partial, Store};
    use crate::digest::Digest;
    use crate::image::ImageSource;

    const MIB: u64 = 1 << 20;

    /// Runs a test with what there is of a file of so many bytes, of which none is.
    fn with_parts(size: u64, test: impl FnOnce(Arc<Parts>)) {
        let temp = tempfile::tempdir().unwrap();
        let store = Store::create(temp.path()).unwrap();
        let pin = Digest::of(b"x").to_string();
        let source = ImageSource::builder("x").kernel("http://h/k", Some(&pin));
        let source = source.rootfs("http://h/r", None).build().unwrap();
        let key = Key::of(source.kernel());
        let mut partial = Partial::claim(&store, &key, &CancelToken::new()).unwrap();
        test(partial.write_in_parts(size).unwrap());
    }

    #[test]
    fn every_byte_is_claimed_once_and_those_given_back_first() {
        with_parts(20 * MIB, |parts| {
            parts.write(&[1; 1000], 5 * MIB).unwrap();
            let cancel = CancelToken::new();
            let plan = Arc::new(Plan::new(parts, 100..20 * MIB, 0));
            let worker = plan.enter();
            let first = plan.claim(&cancel).unwrap();
            assert_eq!(first.range, 100..2 * MIB + STEP);
            let second = plan.claim(&cancel).unwrap();
            assert_eq!(second.range.start, first.range.end);
            plan.write(&first, &[2; 100]).unwrap();
            plan.give_back(&first);
            let again = plan.claim(&cancel).unwrap();
            assert_eq!(again.range, 200..first.range.end);
            let mut all = vec![again, second];
            while plan.state().open.front().is_some() {
                all.push(plan.claim(&cancel).unwrap());
            }
            let last = all.last().unwrap();
            assert!(last.range.end - last.range.start <= SMALLEST + STEP, "{last:?}");
            // What is there already is nobody's.
            for claim in &all {
                plan.write(claim, &vec![3; 3 << 20]).unwrap();
                plan.give_back(claim);
            }
            assert!(plan.claim(&cancel).is_none());
            assert_eq!(plan.parts().total(), 20 * MIB - 100);
            drop(worker);
            assert!(matches!(plan.wait_for(0, &cancel), Front::Abandoned));
            assert!(matches!(plan.wait_for(100, &cancel), Front::There));
        });
    }

    #[test]
    fn an_idle_connection_takes_half_of_what_a_slow_one_has_left() {
        with_parts(2 * MIB, |parts| {
            let cancel = CancelToken::new();
            let plan = Arc::new(Plan::new(parts, 0..2 * MIB, 0));
            let _worker = plan.enter();
            let whole = plan.state().open.pop_front().unwrap();
            let slow = plan.state().claim(whole);
            assert_eq!((slow.range.clone(), plan.left(&slow)), (0..2 * MIB, 2 * MIB));
            plan.write(&slow, &vec![1; 512 << 10]).unwrap();
            let quick = plan.claim(&cancel).unwrap();
            assert_eq!(quick.range, MIB + (256 << 10)..2 * MIB);
            // What the slow one brings beyond that is not written.
            plan.write(&slow, &vec![1; 3 << 20]).unwrap();
            assert_eq!((plan.left(&slow), plan.parts().total()), (0, MIB + (256 << 10)));
            plan.write(&quick, &vec![2; 400 << 10]).unwrap();
            plan.give_back(&slow);
            assert!(plan.claim(&cancel).is_none(), "what is left is too little for two");
            plan.write(&quick, &vec![2; 3 << 20]).unwrap();
            assert_eq!(plan.parts().total(), 2 * MIB);
        });
    }

    #[test]
    fn nobody_fetches_far_ahead_of_what_is_hashed() {
        with_parts(200 * MIB, |parts| {
            let cancel = CancelToken::new();
            let plan = Arc::new(Plan::new(parts, 0..200 * MIB, LARGEST));
            let _worker = plan.enter();
            let far = std::iter::from_fn(|| {
                let near = plan.state().open.front().is_some_and(|piece| piece.start < AHEAD);
                near.then(|| plan.claim(&cancel).unwrap())
            });
            let all: Vec<_> = far.collect();
            assert_eq!(all.last().unwrap().range.end, AHEAD);
            plan.state().claimed.clear();
            std::thread::scope(|scope| {
                let waiting = scope.spawn(|| plan.claim(&cancel));
                plan.advance(5 * MIB);
                assert_eq!(waiting.join().unwrap().unwrap().range.start, AHEAD);
            });
            cancel.cancel();
            assert!(plan.claim(&cancel).is_none());
        });
    }

    #[test]
    fn a_disk_that_takes_no_more_is_told_to_the_reader() {
        with_parts(2 * MIB, |parts| {
            let cancel = CancelToken::new();
            parts.write(&[1; 10], 100).unwrap();
            let plan = Arc::new(Plan::new(parts, 0..2 * MIB, 0));
            let _worker = plan.enter();
            // As if somebody had claimed what is there.
            let claim = plan.state().claim(50..200);
            assert!(plan.write(&claim, &[2; 150]).is_err());
            assert!(matches!(plan.wait_for(0, &cancel), Front::Failed(_)));
            assert!(plan.claim(&cancel).is_none());
        });
    }
}
