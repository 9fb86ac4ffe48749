//! [`Held`]: a file that is whole and verified and waits under its key for the rest of its image.

use std::fs::TryLockError;

use smolvm_fork::Hidden;

use super::dir::{self, Dir};
use super::key::Key;
use super::lock;
use super::note::{Note, read_note};
use super::store::Store;
use super::verify::{self, Verified};
use crate::cancel::CancelToken;
use crate::digest::Digest;
use crate::error::ImageError;

/// A whole and verified file that waits to be published. As long as this is alive, nobody tidies
/// the file away: it holds a shared lock on it.
#[derive(Debug)]
pub(crate) struct Held {
    /// A forked child does not have the file, and so not the lock on it.
    _hidden: Hidden,
    pub(crate) verified: Verified,
    pub(crate) note: Option<Note>,
}

impl Drop for Held {
    fn drop(&mut self) {
        // Not by closing it alone, as with a `Lock`.
        let _ = self.verified.file.unlock();
    }
}

impl Held {
    pub(super) fn keep(verified: Verified, note: Option<Note>) -> Self {
        // Where it is not granted, the worst is that the file is fetched again.
        let _ = verified.file.try_lock_shared();
        Self { _hidden: Hidden::new(&verified.file), verified, note }
    }

    /// Ends the wait: the file is published. Who is the last to hold it removes it from under its
    /// key; what a failure leaves there is removed with the next leavings.
    pub(super) fn leave(&self, store: &Store, key: &Key, cancel: &CancelToken) {
        let file = &self.verified.file;
        let _ = file.unlock();
        let waits = || store.partial.has(key.as_str(), self.verified.inode);
        if !waits() {
            return;
        }
        let lock = lock::acquire(&store.locks, key.as_str(), store.modes.working, cancel, |_| {});
        if lock.is_ok() && waits() && !matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
            discard_parked(store, key);
        }
        let _ = file.unlock();
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
            return Ok(Self::keep(verified, None));
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
    let _ = file.try_lock_shared();
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
    Ok((right && still_there).then(|| Held::keep(verified, note)))
}

/// Removes the file that waits under a key. The caller holds the lock of the key.
pub(crate) fn discard_parked(store: &Store, key: &Key) {
    let _ = store.partial.unlink(key.as_str());
    let _ = store.partial.unlink(&key.note_name());
}
