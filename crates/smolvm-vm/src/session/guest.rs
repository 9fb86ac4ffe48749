//! What concerns the guest as a whole: whether it answers, its clock, its network and its end.

use std::time::{Duration, SystemTime};

use rustix::rand::{GetRandomFlags, getrandom};
use smolvm_protocol::{Network, PowerOff, Request};

use super::Session;
use super::channel::Outcome;
use super::error::SessionError;
use super::wait::deadline;

/// How long a guest may take for what an agent does at once.
const ANSWER: Duration = Duration::from_secs(10);

/// How long a guest may take to say that it is going to end.
const LAST_WORD: Duration = Duration::from_secs(2);

/// The bytes of a seed: twice what the kernel's generator holds.
const SEED: usize = 64;

impl Session {
    /// Returns once the agent has answered.
    ///
    /// # Errors
    ///
    /// [`SessionError::NotAnswering`] where it does not, within 10 s.
    pub fn ping(&self) -> Result<(), SessionError> {
        self.ask(&Request::Ping, "answer", ANSWER)
    }

    /// Sets the guest's clock to the host's time.
    ///
    /// # Errors
    ///
    /// [`SessionError::Guest`] where the guest cannot; [`SessionError::NotAnswering`].
    pub fn set_time(&self) -> Result<(), SessionError> {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let nanos = since_1970.unwrap_or_default().as_nanos();
        let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
        self.ask(&Request::SetTime(nanos), "set its clock", ANSWER)
    }

    /// Gives the guest's kernel new random numbers to begin with, from those of this host.
    ///
    /// # Errors
    ///
    /// As [`set_time`](Self::set_time).
    pub fn reseed(&self) -> Result<(), SessionError> {
        let mut seed = vec![0; SEED];
        getrandom(&mut seed, GetRandomFlags::empty()).map_err(|error| SessionError::Host {
            action: "make random numbers",
            source: error.into(),
        })?;
        self.ask(&Request::Reseed(seed), "take new random numbers", ANSWER)
    }

    /// Sets the guest's network up.
    ///
    /// # Errors
    ///
    /// As [`set_time`](Self::set_time).
    pub fn set_network(&self, network: &Network) -> Result<(), SessionError> {
        self.ask(&Request::SetNetwork(network.clone()), "set its network up", ANSWER)
    }

    /// Waits until the image's own init, where it has one that tells, has started what it starts.
    ///
    /// # Errors
    ///
    /// [`SessionError::NotAnswering`] where that takes longer than `timeout`.
    pub fn settle(&self, timeout: Duration) -> Result<(), SessionError> {
        self.ask(&Request::Settle, "wait for its init", timeout)
    }

    /// Asks the guest to end, and returns once it has said that it is going to.
    ///
    /// # Errors
    ///
    /// [`SessionError::Guest`] where the guest cannot; [`SessionError::NotAnswering`] where it
    /// says nothing, within 2 s.
    pub fn power_off(&self, how: PowerOff) -> Result<(), SessionError> {
        match self.ask(&Request::PowerOff(how), "power off", LAST_WORD) {
            // It may be gone before its answer has come.
            Err(SessionError::Disconnected) => Ok(()),
            answer => answer,
        }
    }

    /// Asks for something that is answered once.
    fn ask(
        &self,
        request: &Request,
        description: &str,
        timeout: Duration,
    ) -> Result<(), SessionError> {
        let until = deadline(timeout);
        let channel = self
            .open(request, until)
            .map_err(|interrupted| interrupted.into_error(description, timeout))?;
        match channel.wait_outcome(until) {
            Some(Outcome::Done) => Ok(()),
            Some(outcome) => Err(outcome.into_error(description)),
            None => Err(channel.late().into_error(description, timeout)),
        }
    }
}
