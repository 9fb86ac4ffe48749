//! What transfers leave behind when they are killed, and when it may go.

use std::path::Path;
use std::time::{Duration, SystemTime};

use super::dir::Dir;
use super::held;
use super::key::Key;
use super::lock;
use super::store::{self, Store};
use crate::error::ImageError;

/// Removes what transfers under a key have left, unless somebody is at work on it.
pub(crate) fn tidy(store: &Store, key: &Key) -> Result<(), ImageError> {
    let names = leavings(&store.partial, key)?;
    if names.is_empty() || !store.locks_exclude {
        return Ok(());
    }
    let Some(_lock) = lock::try_acquire(&store.locks, key.as_str(), store.modes.working)? else {
        return Ok(());
    };
    if held::is_waited_for(store, key) {
        return Ok(());
    }
    for name in leavings(&store.partial, key)? {
        let _ = store.partial.unlink(&name);
    }
    Ok(())
}

/// Whether transfers under these keys have left anything. Makes nothing.
pub(crate) fn has_leavings(
    root: &Path,
    mut keys: impl Iterator<Item = Key>,
) -> Result<bool, ImageError> {
    let partial = match store::open_root(root)?.map(|root| store::open_partial(&root)) {
        Some(partial) => partial?,
        None => None,
    };
    let Some(partial) = partial else {
        return Ok(false);
    };
    let found: Vec<Key> = partial.names()?.iter().filter_map(|name| Key::of_file(name)).collect();
    Ok(keys.any(|key| found.contains(&key)))
}

fn leavings(partial: &Dir, key: &Key) -> Result<Vec<String>, ImageError> {
    let mut names = partial.names()?;
    names.retain(|name| Key::of_file(name).as_ref() == Some(key));
    Ok(names)
}

/// Where a lock that is granted may exclude nobody, what was touched later than this ago may
/// belong to somebody at work.
pub(super) const ABANDONED: Duration = Duration::from_hours(24);

/// Whether nobody can still be at work on a file, with or without a lock.
pub(super) fn is_abandoned(dir: &Dir, name: &str) -> bool {
    let Ok(Some(stat)) = dir.stat(name) else { return false };
    let modified =
        SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(stat.st_mtime).unwrap_or(0));
    SystemTime::now().duration_since(modified).is_ok_and(|age| age > ABANDONED)
}
