//! Removing everything that the cache can do without, and the images that the caller picks.

use std::io;
use std::time::SystemTime;

use super::dir::{self, Dir};
use super::held;
use super::holders;
use super::in_use::Claim;
use super::key::Key;
use super::last_used;
use super::leavings::{ABANDONED, is_abandoned};
use super::left::Left;
use super::lock::{self, Lock};
use super::make::is_temporary_name;
use super::record::{Memory, Record, TEMPORARY_RECORD};
use super::remove;
use super::store::{Store, image_names};
use super::usage::{Ledger, disk_usage};
use crate::cancel::CancelToken;
use crate::error::ImageError;
use crate::name::ImageName;
use crate::prune_options::PruneOptions;
use crate::report::{Leaving, Pruned, PrunedItem};

/// What the registry says of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Registered {
    Not,
    /// Not every asset has a pin.
    Unpinned,
    Pinned,
}

/// Removes, or in a dry run only lists, partial and temporary files that nobody is at work on, and
/// the images that the options pick and nobody uses.
pub(crate) fn prune(
    store: &Store,
    registered: impl Fn(&str) -> Registered,
    options: &PruneOptions,
    cancel: &CancelToken,
) -> Result<Pruned, ImageError> {
    let (ledger, pruned) = (Ledger::default(), Pruned::default());
    let before = disk_usage(&store.root)?;
    let mut prune = Prune { store, dry_run: options.dry_run, cancel, ledger, pruned };
    prune.leavings()?;
    let mut left = Vec::new();
    for name in image_names(&store.root)? {
        let Some(image) = Image::look(store, name, &registered)? else { continue };
        let picked = image.picked(options);
        match picked {
            Some(what) => prune.image(&image, what)?,
            None => left.push(image),
        }
    }
    if let Some(budget) = options.max_size {
        left.sort_by(|one, other| (one.used, &one.name).cmp(&(other.used, &other.name)));
        for image in left {
            if before.saturating_sub(prune.pruned.freed_bytes) > budget {
                prune.image(&image, Leaving::LeastRecentlyUsedImage)?;
            }
        }
    }
    prune.pruned.left_bytes = before.saturating_sub(prune.pruned.freed_bytes);
    Ok(prune.pruned)
}

/// An image in the cache that may be removed.
struct Image {
    name: ImageName,
    dir: Dir,
    registered: Registered,
    /// When it was used last.
    used: SystemTime,
}

impl Image {
    /// Only what a record shows to be an image of ours: other directories are somebody else's, or
    /// a later version's.
    fn look(
        store: &Store,
        name: ImageName,
        registered: &impl Fn(&str) -> Registered,
    ) -> Result<Option<Self>, ImageError> {
        let Some(dir) = store.root.open_dir(&name)? else { return Ok(None) };
        if Memory::read(&dir).record().is_none() || Record::newer_version(&dir).is_some() {
            return Ok(None);
        }
        let used = last_used::of_image(store, &name, &dir);
        Ok(Some(Self { registered: registered(&name), name, dir, used }))
    }

    /// Why it goes, whatever room there is.
    fn picked(&self, options: &PruneOptions) -> Option<Leaving> {
        let age = SystemTime::now().duration_since(self.used).unwrap_or_default();
        if options.unregistered && self.registered == Registered::Not {
            Some(Leaving::UnregisteredImage)
        } else if options.older_than.is_some_and(|limit| age >= limit) {
            Some(Leaving::UnusedImage)
        } else if options.unpinned && self.registered == Registered::Unpinned {
            Some(Leaving::UnpinnedImage)
        } else {
            None
        }
    }
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
    /// What nobody is at work on, and what is noted of things that are gone.
    fn leavings(&mut self) -> Result<(), ImageError> {
        let store = self.store;
        for name in store.partial.names()? {
            self.partial_file(&name)?;
        }
        for dir in [Some(&store.root), Some(&store.locks), store.last_used.as_ref()] {
            let Some(dir) = dir else { continue };
            for name in dir.names()? {
                if is_temporary_name(&name) && self.is_left(dir, &name) {
                    self.entry(dir, &name, Leaving::Temporary)?;
                }
            }
        }
        let stale =
            [(&store.last_used, last_used::stale(store)?), (&store.in_use, holders::stale(store)?)];
        for (dir, names) in stale {
            let Some(dir) = dir else { continue };
            for name in names {
                self.entry(dir, &name, Leaving::Temporary)?;
            }
        }
        for name in image_names(&store.root)? {
            if let Some(dir) = store.root.open_dir(&name)? {
                self.temporary_record(&name, &dir)?;
            }
        }
        Ok(())
    }

    /// Whether whoever made something under a temporary name is gone: it is locked until it has its
    /// name.
    fn is_left(&self, dir: &Dir, name: &str) -> bool {
        is_abandoned(dir, name) || self.store.locks_exclude && dir.is_unlocked(name)
    }

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
        // A whole file that waits for the rest of its image, and its note.
        if held::is_waited_for(store, &key) {
            return Ok(());
        }
        let bytes = name == key.as_str() || Left::of(partial, name).is_some();
        self.entry(partial, name, if bytes { Leaving::Partial } else { Leaving::Temporary })
    }

    /// An image, unless somebody changes or uses it.
    fn image(&mut self, image: &Image, what: Leaving) -> Result<(), ImageError> {
        let store = self.store;
        let Some(_lock) = self.lock(&format!("image-{}", image.name))? else {
            self.pruned.in_use.push(image.name.clone());
            return Ok(());
        };
        let claim = Claim::on(&image.dir, &self.ledger)?;
        let age = SystemTime::now().duration_since(image.used).unwrap_or_default();
        if claim.is_in_use
            // Where locks may exclude nobody, nobody knows.
            || !store.locks_exclude && age < ABANDONED
            || !holders::directories(store, &image.name)?.is_empty()
        {
            self.pruned.in_use.push(image.name.clone());
            return Ok(());
        }
        self.entry(&store.root, &image.name, what)?;
        if !self.dry_run {
            remove::forget(store, &image.name);
        }
        Ok(())
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
        let lock = lock::try_acquire_unnoted(locks, key, modes.working)?;
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
