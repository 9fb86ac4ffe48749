//! How often a transfer is tried, and how long it pauses between two tries.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};

use super::Stop;
use crate::source::{Failure, Retry};

/// How often and how patiently a transfer is tried.
///
/// An attempt that brought a mebibyte more than any before it begins the count anew: a long
/// transfer over a bad line goes on as long as it gets on.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetryPolicy {
    /// Attempts in a row that do not get on. Default: 5.
    pub attempts: u32,
    /// The pause after the first failure; it doubles with each one, with jitter. Default: 250 ms.
    pub first_pause: Duration,
    /// No pause of our own is longer. Default: 10 s.
    pub longest_pause: Duration,
    /// No pause that a server asks for (`Retry-After`) is longer. Default: 60 s.
    pub longest_retry_after: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 5,
            first_pause: Duration::from_millis(250),
            longest_pause: Duration::from_secs(10),
            longest_retry_after: Duration::from_mins(1),
        }
    }
}

/// Bytes that count as getting on.
const PROGRESS: u64 = 1 << 20;

/// Counts the attempts of one transfer.
pub(super) struct Attempts<'a> {
    policy: &'a RetryPolicy,
    backoff: ExponentialBackoff,
    /// Failures since the transfer last got on, and in all.
    failures: u32,
    all_failures: u32,
    /// The furthest byte that was reached when it did.
    furthest: u64,
}

/// A pause before the next attempt.
pub(super) struct Pause {
    pub(super) attempt: u32,
    pub(super) duration: Duration,
    pub(super) reason: String,
}

impl<'a> Attempts<'a> {
    pub(super) fn new(policy: &'a RetryPolicy) -> Self {
        Self { policy, backoff: backoff(policy), failures: 0, all_failures: 0, furthest: 0 }
    }

    /// What to do after a failure, when `length` bytes have come.
    pub(super) fn after(&mut self, failure: Failure, length: u64) -> Result<Pause, Stop> {
        if length >= self.furthest.saturating_add(PROGRESS) {
            self.furthest = length;
            self.failures = 0;
            self.backoff = backoff(self.policy);
        }
        self.failures += 1;
        self.all_failures += 1;
        let own = self.backoff.next();
        let duration = match (failure.retry, own) {
            (Retry::Yes, Some(own)) => own,
            (Retry::After(asked), Some(_)) => asked.min(self.policy.longest_retry_after),
            (Retry::Never, _) | (_, None) => {
                return Err(Stop::Failed { attempts: self.all_failures, error: failure.error });
            }
        };
        Ok(Pause { attempt: self.all_failures, duration, reason: failure.error.to_string() })
    }
}

fn backoff(policy: &RetryPolicy) -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(policy.first_pause)
        .with_max_delay(policy.longest_pause)
        .with_max_times(usize::try_from(policy.attempts.saturating_sub(1)).unwrap_or(usize::MAX))
        .with_jitter()
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transfer::TransferError;

    fn failure(retry: Retry) -> Failure {
        Failure { error: TransferError::Status(503), retry }
    }

    /// Behaviour 12: a bounded number of times.
    #[test]
    fn gives_up_where_nothing_gets_on() {
        let policy = RetryPolicy { attempts: 3, ..RetryPolicy::default() };
        let mut attempts = Attempts::new(&policy);
        assert_eq!(attempts.after(failure(Retry::Yes), 10).ok().map(|p| p.attempt), Some(1));
        assert_eq!(attempts.after(failure(Retry::Yes), 20).ok().map(|p| p.attempt), Some(2));
        let stop = attempts.after(failure(Retry::Yes), 30).err().unwrap();
        assert!(matches!(stop, Stop::Failed { attempts: 3, .. }));
    }

    #[test]
    fn progress_begins_the_count_anew_but_a_restart_is_none() {
        let policy = RetryPolicy { attempts: 2, ..RetryPolicy::default() };
        let mut attempts = Attempts::new(&policy);
        for mebibytes in 1..10 {
            assert!(attempts.after(failure(Retry::Yes), mebibytes * PROGRESS).is_ok());
        }
        // A server without ranges begins at zero again: 5 MiB have been there before.
        assert!(attempts.after(failure(Retry::Yes), 5 * PROGRESS).is_err());
    }

    /// Behaviour 13: what the server asks for, up to a cap; definite refusals at once.
    #[test]
    fn retry_after_is_capped() {
        let policy = RetryPolicy::default();
        let mut attempts = Attempts::new(&policy);
        let asked = |seconds| failure(Retry::After(Duration::from_secs(seconds)));
        let pause = |pause: Result<Pause, Stop>| pause.ok().map(|pause| pause.duration);
        assert_eq!(pause(attempts.after(asked(7), 0)), Some(Duration::from_secs(7)));
        assert_eq!(pause(attempts.after(asked(u64::MAX), 0)), Some(policy.longest_retry_after));
        assert!(attempts.after(failure(Retry::Never), 0).is_err());
    }
}
