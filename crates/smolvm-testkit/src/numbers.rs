//! [`Numbers`]: what random tests choose by, so that a run that failed can be had again.

use std::time::{SystemTime, UNIX_EPOCH};

/// The environment variable with the seed of the run to repeat.
const SEED: &str = "SMOLVM_TEST_SEED";

/// Numbers that look random and are those of a seed (the generator is `SplitMix64`).
#[derive(Debug, Clone)]
pub struct Numbers(u64);

impl Numbers {
    /// Numbers of the seed that `SMOLVM_TEST_SEED` gives, else of the clock. The seed is printed,
    /// and so seen where the test fails.
    #[must_use]
    pub fn of_this_run() -> Self {
        let given = std::env::var(SEED).ok().map(|seed| seed.parse().unwrap());
        let seed = given.unwrap_or_else(|| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            now.as_secs() ^ u64::from(now.subsec_nanos())
        });
        println!("to repeat: {SEED}={seed}");
        Self::of(seed)
    }

    /// Numbers of a seed.
    ///
    /// ```
    /// let mut numbers = smolvm_testkit::Numbers::of(7);
    /// assert!(numbers.below(10) < 10);
    /// assert_eq!(numbers.clone().below(1_000_000), numbers.below(1_000_000));
    /// ```
    #[must_use]
    pub fn of(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number, below a limit.
    ///
    /// # Panics
    ///
    /// When `limit` is 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ (word >> 31)) % limit
    }
}
