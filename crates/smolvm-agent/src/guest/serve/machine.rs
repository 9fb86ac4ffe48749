//! [`Machine`]: what changes the machine as a whole.

use std::fmt::Display;
use std::time::Duration;

use smolvm_protocol::{Failure, Network};

use super::failure::io_failure;
use super::network;
use crate::boot::console;
use crate::sys::{clock, random};

/// The machine that the agent runs on.
#[derive(Debug, Clone, Copy)]
pub(super) enum Machine {
    /// A guest, which is the host's to change.
    Guest,
    /// One that tests run on, which stays as it is.
    #[cfg(test)]
    Untouched,
}

impl Machine {
    /// Sets the clock to this time since 1970.
    pub(super) fn set_time(self, since_1970: Duration) -> Result<(), Failure> {
        match self {
            Self::Guest => clock::set(since_1970)
                .map_err(|error| io_failure("the guest's clock cannot be set", &error)),
            #[cfg(test)]
            Self::Untouched => Ok(()),
        }
    }

    /// Makes new random numbers from this seed.
    pub(super) fn reseed(self, seed: &[u8]) -> Result<(), Failure> {
        match self {
            Self::Guest => random::reseed(seed)
                .map_err(|error| io_failure("the guest's random numbers stay as they are", &error)),
            #[cfg(test)]
            Self::Untouched => Ok(()),
        }
    }

    /// Says something on the console.
    pub(super) fn note(self, message: impl Display) {
        match self {
            Self::Guest => console::note(message),
            #[cfg(test)]
            Self::Untouched => {}
        }
    }

    /// Sets the network up.
    pub(super) fn set_network(self, network: &Network) -> Result<(), Failure> {
        match self {
            Self::Guest => network::set_up(network),
            #[cfg(test)]
            Self::Untouched => Ok(()),
        }
    }
}
