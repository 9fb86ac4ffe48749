//! [`Watch`]: whether more connections would help, by what those that there are bring.

use std::time::{Duration, Instant};

/// How long it looks before it says anything. A transfer that is over by then needs no help.
const LOOK: Duration = Duration::from_millis(50);

/// What one connection must bring, next to waiting for its first byte, for others to be worth
/// their way there.
const WORTH: f64 = 2.0;

/// What is enough for one connection, in bytes a second: beyond it, the receiving machine is as a
/// rule what is slow, and more connections are more work for it.
const ENOUGH: f64 = 100e6;

/// More connections have helped if all together bring this much more than before. Less may be the
/// weather: on a busy machine what one connection brings goes up and down by as much.
const GAIN: f64 = 1.25;

/// Looks in a row that must have found the same before other connections are opened.
const SURE: u32 = 2;

/// Looks at one connection, and later at several.
#[derive(Debug)]
pub(super) struct Watch {
    /// From asking to the first byte.
    first_byte: Duration,
    began: Instant,
    bytes: u64,
    /// Time that was spent waiting for bytes, and not for the hash or the disk.
    waited: Duration,
    /// What had come, and in what time, before the last step.
    before: (u64, Duration),
    /// Looks in a row by which more connections would help.
    in_want: u32,
}

impl Watch {
    pub(super) fn new(first_byte: Duration) -> Self {
        Self {
            first_byte,
            began: Instant::now(),
            bytes: 0,
            waited: Duration::ZERO,
            before: (0, Duration::ZERO),
            in_want: 0,
        }
    }

    /// Counts a read.
    pub(super) fn count(&mut self, bytes: u64, waited: Duration) {
        self.bytes += bytes;
        self.waited += waited;
    }

    /// Whether there is enough to judge by: connections that were just opened must have had the
    /// time to bring something.
    pub(super) fn is_due(&self) -> bool {
        self.began.elapsed() >= LOOK.max(3 * self.first_byte)
    }

    /// Whether it has looked for so long that what has not helped by now will not.
    pub(super) fn has_looked_enough(&self) -> bool {
        self.began.elapsed() >= 4 * LOOK.max(3 * self.first_byte)
    }

    /// Whether the one connection is what everybody waits for, and so slow that fetching a piece
    /// of that size takes longer than getting to its first byte; and was at the last look.
    pub(super) fn wants_more(&mut self, piece: u64) -> bool {
        let waits = self.waited > self.began.elapsed() / 2;
        // While nobody reads, as the hash is behind, bytes gather: they say nothing of the line.
        let rate = rate(self.bytes, self.waited);
        let is_worth_it = piece as f64 / rate.max(1.0) > WORTH * self.first_byte.as_secs_f64();
        let needed = waits && is_worth_it && rate < ENOUGH;
        self.in_want = if needed { self.in_want + 1 } else { 0 };
        self.in_want >= SURE
    }

    /// Bytes that came before the last step in the time that it takes to get to a first byte.
    pub(super) fn bytes_before_first(&self) -> u64 {
        let (bytes, elapsed) = self.before;
        let in_that_time = u128::from(bytes) * self.first_byte.as_micros();
        u64::try_from(in_that_time / elapsed.as_micros().max(1)).unwrap_or(u64::MAX)
    }

    /// Whether the last step has helped.
    pub(super) fn has_gained(&self) -> bool {
        self.rate() > GAIN * rate(self.before.0, self.before.1)
    }

    /// Begins to look anew, after a step.
    pub(super) fn step(&mut self) {
        self.before = (self.bytes, self.began.elapsed());
        self.began = Instant::now();
        self.bytes = 0;
        self.waited = Duration::ZERO;
    }

    fn rate(&self) -> f64 {
        rate(self.bytes, self.began.elapsed())
    }
}

/// Bytes a second.
fn rate(bytes: u64, elapsed: Duration) -> f64 {
    bytes as f64 / elapsed.as_secs_f64().max(1e-6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_slow_connection_wants_more_unless_they_are_far_away() {
        let looked = |first_byte: Duration, bytes: u64, waited: Duration| {
            let mut watch = Watch::new(first_byte);
            watch.began -= Duration::from_secs(1);
            watch.count(bytes, waited);
            assert!(!watch.wants_more(1 << 20), "one look is none");
            watch.wants_more(1 << 20)
        };
        let (near, far) = (Duration::from_millis(1), Duration::from_millis(100));
        let waiting = Duration::from_millis(900);
        assert!(looked(near, 20_000_000, waiting));
        assert!(!looked(near, 20_000_000, Duration::from_millis(300)), "the disk is slower");
        assert!(!looked(far, 20_000_000, waiting), "a chunk comes faster than its connection");
        assert!(looked(far, 2_000_000, waiting));
        assert!(!looked(near, 200_000_000, waiting), "it is fast");
        let behind = Duration::from_millis(510);
        assert!(!looked(near, 60_000_000, behind), "it is fast where anybody reads");
    }

    #[test]
    fn a_step_is_held_against_what_was_before() {
        let mut watch = Watch::new(Duration::ZERO);
        watch.began -= Duration::from_secs(1);
        watch.count(10_000_000, Duration::ZERO);
        watch.step();
        watch.began -= Duration::from_secs(1);
        watch.count(10_500_000, Duration::ZERO);
        assert!(!watch.has_gained());
        watch.count(5_000_000, Duration::ZERO);
        assert!(watch.has_gained());
        assert!(watch.has_looked_enough());
    }

    #[test]
    fn a_piece_is_worth_the_way_to_it() {
        let mut watch = Watch::new(Duration::from_millis(100));
        watch.began -= Duration::from_secs(1);
        watch.count(10_000_000, Duration::ZERO);
        watch.step();
        let bytes = watch.bytes_before_first();
        assert!((900_000..=1_000_000).contains(&bytes), "{bytes}");
    }
}
