//! The same content under another name: an asset that another image in the cache already has is
//! linked from there, else cloned, else copied, and not fetched.

use super::copy::clone_or_copy;
use super::dir::Dir;
use super::held::Held;
use super::key::Key;
use super::partial::Partial;
use super::record::Memory;
use super::store::{Store, image_names};
use super::verify;
use crate::cancel::CancelToken;
use crate::digest::Digest;
use crate::error::ImageError;

/// Looks for the content of a digest in the other images, by their records, and makes it the
/// whole file that waits under the key. Gives back the image that it is from, too.
///
/// The caller holds the lock of the key. Records are only hints: the bytes are hashed.
pub(crate) fn find_shared(
    store: &Store,
    key: &Key,
    digest: Digest,
    cancel: &CancelToken,
) -> Result<Option<(String, Held)>, ImageError> {
    for image in image_names(&store.root)? {
        let Ok(Some(dir)) = store.root.open_dir(&image) else {
            continue;
        };
        let memory = Memory::read(&dir);
        let Some(record) = memory.record() else {
            continue;
        };
        for asset in record.assets.values().filter(|asset| asset.sha256 == digest) {
            if let Some(held) = take_over(store, key, digest, &dir, &asset.file, cancel)? {
                return Ok(Some((image.to_string(), held)));
            }
        }
    }
    Ok(None)
}

fn take_over(
    store: &Store,
    key: &Key,
    digest: Digest,
    dir: &Dir,
    name: &str,
    cancel: &CancelToken,
) -> Result<Option<Held>, ImageError> {
    // The record may be forged: what it names is one component, and no link is followed.
    if name.contains('/') {
        return Ok(None);
    }
    let Ok(Some(source)) = dir.open_file(name) else {
        return Ok(None);
    };
    let Ok(verified) = verify::examine(source, |_| {}, cancel)? else {
        return Ok(None);
    };
    if verified.digest != digest {
        return Ok(None);
    }
    let verified = match Held::link(store, key, dir, name, verified) {
        Ok(held) => return Ok(Some(held)),
        Err(verified) => verified,
    };
    let mut partial = Partial::claim(store, key, cancel)?;
    partial.restart()?;
    match clone_or_copy(&verified.file, partial.file(), verified.size, cancel) {
        Ok(true) => partial.grow(verified.size),
        Ok(false) => return Err(ImageError::Cancelled),
        Err(error) => {
            // A fetch is the other way to have it, and tells more of what is wrong.
            log::debug!("cannot copy {}: {error}", dir.path_of(name).display());
            partial.discard();
            return Ok(None);
        }
    }
    // The owner of the original could change it while it was copied.
    let Some((hasher, _)) =
        verify::hash_prefix(partial.file(), u64::MAX, sha2::Digest::new(), cancel)
            .map_err(|error| ImageError::io(&partial.path(), "read", error))?
    else {
        return Err(ImageError::Cancelled);
    };
    if Digest::from(hasher) != digest {
        partial.discard();
        return Ok(None);
    }
    partial.park(digest, false).map(Some)
}
