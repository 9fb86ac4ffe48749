//! [`Tally`]: how each asset of an image was had, for the summary of a pull.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use smolvm::{AssetKind, Event};

/// Collects the events of one image.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    assets: Mutex<BTreeMap<AssetKind, AssetTally>>,
}

/// How one asset was had.
#[derive(Debug, Clone, Default)]
pub(crate) struct AssetTally {
    pub(crate) outcome: Outcome,
    /// Bytes that came over the wire.
    pub(crate) received: u64,
    pub(crate) retries: u32,
    /// What was wrong with the cached file that was replaced.
    pub(crate) damage: Option<String>,
    /// The image that it was taken from.
    pub(crate) shared_from: Option<String>,
    waited: bool,
}

/// The ways to have an asset.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    /// It was cached and whole.
    #[default]
    Cached,
    /// It was fetched.
    Fetched,
    /// Another image has the same content.
    Shared,
    /// Another process fetched it meanwhile.
    Waited,
}

impl Tally {
    /// Takes note of an event.
    pub(crate) fn note(&self, kind: AssetKind, event: &Event) {
        let mut assets = self.assets.lock().unwrap_or_else(PoisonError::into_inner);
        let asset = assets.entry(kind).or_default();
        match event {
            Event::Cached { .. } if asset.waited => asset.outcome = Outcome::Waited,
            Event::Cached { .. } => asset.outcome = Outcome::Cached,
            Event::Shared { image, .. } => {
                asset.outcome = Outcome::Shared;
                asset.shared_from = Some(image.clone());
            }
            Event::Fetched { received, .. } => {
                asset.outcome = Outcome::Fetched;
                asset.received = *received;
            }
            Event::Damaged { reason } => asset.damage = Some(reason.clone()),
            Event::Waiting { .. } => asset.waited = true,
            Event::Retrying { .. } => asset.retries += 1,
            _ => {}
        }
    }

    /// What is known of an asset.
    pub(crate) fn asset(&self, kind: AssetKind) -> AssetTally {
        let assets = self.assets.lock().unwrap_or_else(PoisonError::into_inner);
        assets.get(&kind).cloned().unwrap_or_default()
    }
}

impl Outcome {
    /// The outcome as a word.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Cached => "cached",
            Self::Fetched => "fetched",
            Self::Shared => "shared",
            Self::Waited => "waited",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(events: &[Event]) -> Outcome {
        let tally = Tally::default();
        for event in events {
            tally.note(AssetKind::Kernel, event);
        }
        tally.asset(AssetKind::Kernel).outcome
    }

    #[test]
    fn the_last_event_decides() {
        let cached = Event::Cached { size: 1 };
        let waiting = Event::Waiting { what: "a lock".to_owned() };
        let fetched = Event::Fetched { size: 1, received: 1 };
        let damaged = Event::Damaged { reason: "a byte".to_owned() };
        assert_eq!(outcome(std::slice::from_ref(&cached)), Outcome::Cached);
        assert_eq!(outcome(&[waiting.clone(), cached]), Outcome::Waited);
        assert_eq!(outcome(&[damaged, waiting, fetched]), Outcome::Fetched);
    }
}
