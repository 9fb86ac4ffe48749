//! Removing one image by its name.

use std::io;

use super::dir;
use super::holders;
use super::in_use::Claim;
use super::last_used;
use super::store::Store;
use super::usage::Ledger;
use crate::cancel::CancelToken;
use crate::error::ImageError;
use crate::name::ImageName;
use crate::report::{ImageUser, Removed};

/// Removes an image's directory, unless it is in use; with `force` also then. A symbolic link in
/// its place is removed, not what it points to.
pub(crate) fn remove(
    store: &Store,
    name: &ImageName,
    force: bool,
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
        let claim = store.root.open_dir(name)?.map(|dir| Claim::on(&dir, &ledger)).transpose()?;
        let claim = claim.unwrap_or_default();
        let users = users(store, name, &claim)?;
        if let Some(users) = users.filter(|_| !force) {
            return Err(ImageError::InUse { image: name.to_string(), users });
        }
        // Who uses a file keeps it, and the disk gets it back later.
        ledger.keep(&claim.busy);
        let bytes = ledger.free_tree(&store.root, name)?;
        store.root.remove_tree(name)?;
        bytes
    } else {
        let bytes = ledger.free(&store.root, name);
        store.root.unlink(name).map_err(|error| failed("remove", error))?;
        bytes
    };
    forget(store, name);
    Ok(Removed { existed: true, freed_bytes })
}

/// Who uses an image, as far as that is known; `None` where nobody does.
fn users(
    store: &Store,
    name: &ImageName,
    claim: &Claim,
) -> Result<Option<Vec<ImageUser>>, ImageError> {
    let directories = holders::directories(store, name)?;
    if directories.is_empty() && !claim.is_in_use {
        return Ok(None);
    }
    let processes = if claim.is_in_use { holders::processes(&claim.busy) } else { Vec::new() };
    let directories = directories.into_iter().map(|path| ImageUser::Directory { path });
    Ok(Some(processes.into_iter().chain(directories).collect()))
}

/// Removes what is noted of an image that is gone: the next one of its name is another.
pub(super) fn forget(store: &Store, name: &ImageName) {
    last_used::forget(store, name);
    holders::forget(store, name);
}
