//! Removing: one image by name, or everything that the cache can do without.

use std::io;

use super::dir::{self, Dir};
use super::key::Key;
use super::leavings::is_abandoned;
use super::lock::{self, Lock};
use super::record::{Memory, Record, TEMPORARY_RECORD};
use super::store::{Store, image_names};
use super::usage::Ledger;
use crate::cancel::CancelToken;
use crate::error::ImageError;
use crate::name::ImageName;
use crate::report::{Leaving, Pruned, PrunedItem, Removed};

/// Removes an image's directory. A symbolic link in its place is removed, not what it points to.
pub(crate) fn remove(
    store: &Store,
    name: &ImageName,
    cancel: &CancelToken,
) -> Result<Removed, ImageError> {
    let _lock = store.lock_image(name, cancel)?;
    let path = store.root.path_of(name);
    let failed = |action, error: io::Error| ImageError::io(&path, action, error);
    let Some(stat) = store.root.stat(name).map_err(|error| failed("look at", error))? else {
        return Ok(Removed { existed: false, freed_bytes: 0 });
    };
    let mut ledger = Ledger::default();
    let freed_bytes = if dir::is_directory(&stat) {
        let bytes = ledger.free_tree(&store.root, name)?;
        store.root.remove_tree(name)?;
        bytes
    } else {
        let bytes = ledger.free(&store.root, name);
        store.root.unlink(name).map_err(|error| failed("remove", error))?;
        bytes
    };
    Ok(Removed { existed: true, freed_bytes })
}

/// Removes, or with `dry_run` only lists, partial and temporary files that nobody is at work on
/// and images that `is_registered` does not know.
pub(crate) fn prune(
    store: &Store,
    is_registered: impl Fn(&str) -> bool,
    dry_run: bool,
    cancel: &CancelToken,
) -> Result<Pruned, ImageError> {
    let (ledger, pruned) = (Ledger::default(), Pruned::default());
    let mut prune = Prune { store, dry_run, cancel, ledger, pruned };
    for name in store.partial.names()? {
        prune.partial_file(&name)?;
    }
    for dir in [&store.root, &store.locks] {
        for name in dir.names()? {
            // Between making it and giving it its name is a moment: it has no lock, only an age.
            if dir::is_temporary_name(&name) && is_abandoned(dir, &name) {
                prune.entry(dir, &name, Leaving::Temporary)?;
            }
        }
    }
    for name in image_names(&store.root)? {
        if !is_registered(&name) {
            prune.image(&name)?;
        } else if let Some(dir) = store.root.open_dir(&name)? {
            prune.temporary_record(&name, &dir)?;
        }
    }
    Ok(prune.pruned)
}

struct Prune<'a> {
    store: &'a Store,
    dry_run: bool,
    cancel: &'a CancelToken,
    ledger: Ledger,
    pruned: Pruned,
}

/// The right to remove what belongs to a lock; a dry run does without the lock.
struct Turn {
    _lock: Option<Lock>,
}

impl Prune<'_> {
    fn partial_file(&mut self, name: &str) -> Result<(), ImageError> {
        let store = self.store;
        let partial = &store.partial;
        if !store.locks_exclude && !is_abandoned(partial, name) {
            return Ok(());
        }
        let Some(key) = Key::of_file(name) else {
            return self.entry(partial, name, Leaving::Temporary);
        };
        let Some(_lock) = self.lock(key.as_str())? else { return Ok(()) };
        // A whole file that waits for the rest of its image is locked by who waits; so is its note.
        if let Ok(Some(waiting)) = partial.open_file(key.as_str())
            && lock::is_in_use(&waiting)
        {
            return Ok(());
        }
        let bytes = name == key.as_str() || name.strip_suffix(".part").is_some();
        self.entry(partial, name, if bytes { Leaving::Partial } else { Leaving::Temporary })
    }

    /// Only what a record shows to be an image of ours: other directories are somebody else's, or
    /// a later version's.
    fn image(&mut self, name: &ImageName) -> Result<(), ImageError> {
        let store = self.store;
        let Some(dir) = store.root.open_dir(name)? else {
            return Ok(());
        };
        if Memory::read(&dir).record().is_none() || Record::newer_version(&dir).is_some() {
            return Ok(());
        }
        let Some(_lock) = self.lock(&format!("image-{name}"))? else { return Ok(()) };
        self.entry(&store.root, name, Leaving::UnregisteredImage)
    }

    fn temporary_record(&mut self, name: &ImageName, dir: &Dir) -> Result<(), ImageError> {
        if !matches!(dir.stat(TEMPORARY_RECORD), Ok(Some(_))) {
            return Ok(());
        }
        match self.lock(&format!("image-{name}"))? {
            Some(_lock) => self.entry(dir, TEMPORARY_RECORD, Leaving::Temporary),
            None => Ok(()),
        }
    }

    /// Takes a lock if nobody has it. A dry run only looks, and writes nothing.
    fn lock(&self, key: &str) -> Result<Option<Turn>, ImageError> {
        let Store { locks, modes, .. } = self.store;
        if self.dry_run {
            return Ok(lock::is_free(locks, key)?.then_some(Turn { _lock: None }));
        }
        let lock = lock::try_acquire(locks, key, modes.working)?;
        Ok(lock.map(|lock| Turn { _lock: Some(lock) }))
    }

    /// A file, or whatever else lies in its place: a planted directory goes as well.
    fn entry(&mut self, dir: &Dir, name: &str, what: Leaving) -> Result<(), ImageError> {
        if self.cancel.is_cancelled() {
            return Err(ImageError::Cancelled);
        }
        let failed = |action, error| ImageError::io(&dir.path_of(name), action, error);
        let stat = dir.stat(name).map_err(|error: io::Error| failed("look at", error))?;
        // Who was at work on it may have removed it by now.
        let Some(stat) = stat else { return Ok(()) };
        let freed_bytes = if dir::is_directory(&stat) {
            let bytes = self.ledger.free_tree(dir, name)?;
            if !self.dry_run {
                dir.remove_tree(name)?;
            }
            bytes
        } else {
            let bytes = self.ledger.free(dir, name);
            if !self.dry_run {
                dir.unlink(name).map_err(|error| failed("remove", error))?;
            }
            bytes
        };
        self.add(dir, name, what, freed_bytes);
        Ok(())
    }

    fn add(&mut self, dir: &Dir, name: &str, what: Leaving, freed_bytes: u64) {
        self.pruned.items.push(PrunedItem { path: dir.path_of(name), what, freed_bytes });
        self.pruned.freed_bytes += freed_bytes;
    }
}
