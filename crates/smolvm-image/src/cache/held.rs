//! [`Held`]: a file that is whole and verified and waits under its key for the rest of its image.

use super::dir::{self, Dir};
use super::key::Key;
use super::lock::{self, Shared};
use super::note::{Note, read_note};
use super::store::Store;
use super::verify::{self, Verified};
use crate::cancel::CancelToken;
use crate::digest::Digest;
use crate::error::ImageError;

/// A whole and verified file that waits to be published. As long as this is alive, nobody tidies
/// the file away: it holds a shared lock beside that of the key. Not on the file itself, which may
/// be in use as a link in other images.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) verified: Verified,
    pub(crate) note: Option<Note>,
    waiting: Option<Shared>,
}

impl Held {
    pub(super) fn keep(store: &Store, key: &Key, verified: Verified, note: Option<Note>) -> Self {
        // Where it is not granted, the worst is that the file is fetched again.
        let waiting = lock::share(&store.locks, &key.waiting_name(), store.modes.working);
        Self { verified, note, waiting }
    }

    /// Ends the wait: the file is published. Who is the last to hold it removes it from under its
    /// key; what a failure leaves there is removed with the next leavings.
    pub(super) fn leave(&mut self, store: &Store, key: &Key, cancel: &CancelToken) {
        self.waiting = None;
        let waits = || store.partial.has(key.as_str(), self.verified.inode);
        if !waits() {
            return;
        }
        let lock = lock::acquire(&store.locks, key.as_str(), store.modes.working, cancel, |_| {});
        if lock.is_ok() && waits() && !is_waited_for(store, key) {
            discard_parked(store, key);
        }
    }

    /// Makes a verified file of another image wait under a key, as a link to it. Gives it back
    /// where it cannot be linked, or is another user's, who could change it later.
    pub(super) fn link(
        store: &Store,
        key: &Key,
        from: &Dir,
        name: &str,
        verified: Verified,
    ) -> Result<Self, Verified> {
        let own = rustix::fs::fstat(&verified.file).is_ok_and(|stat| dir::is_own(&stat));
        discard_parked(store, key);
        if own
            && from.hard_link(name, &store.partial, key.as_str()).is_ok()
            && store.partial.has(key.as_str(), verified.inode)
        {
            return Ok(Self::keep(store, key, verified, None));
        }
        discard_parked(store, key);
        Err(verified)
    }
}

/// The whole file that waits under a key, if there is one and it is right. The caller holds the
/// lock of the key; `on_hash` is called with the size in bytes before it is hashed.
pub(crate) fn parked(
    store: &Store,
    key: &Key,
    pin: Option<Digest>,
    cancel: &CancelToken,
    on_hash: impl FnOnce(u64),
) -> Result<Option<Held>, ImageError> {
    let Ok(Some(file)) = store.partial.open_file(key.as_str()) else {
        return Ok(None);
    };
    let note = read_note(&store.partial, &key.note_name());
    let Ok(verified) = verify::examine(file, on_hash, cancel)? else {
        return Ok(None);
    };
    let right = match pin {
        Some(pin) => pin == verified.digest,
        None => note.as_ref().is_some_and(|note| note.total == Some(verified.size)),
    };
    let still_there = store.partial.has(key.as_str(), verified.inode);
    if !right && still_there {
        discard_parked(store, key);
    }
    Ok((right && still_there).then(|| Held::keep(store, key, verified, note)))
}

/// Whether somebody waits with the file under a key for the rest of an image. The caller holds the
/// lock of the key, so that nobody begins to.
pub(super) fn is_waited_for(store: &Store, key: &Key) -> bool {
    matches!(lock::is_free(&store.locks, &key.waiting_name()), Ok(false))
}

/// Removes the file that waits under a key. The caller holds the lock of the key.
pub(crate) fn discard_parked(store: &Store, key: &Key) {
    let _ = store.partial.unlink(key.as_str());
    let _ = store.partial.unlink(&key.note_name());
}
