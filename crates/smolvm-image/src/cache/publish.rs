//! Publishing: verified files go to their final names by rename, and the record follows.

use std::io;
use std::time::SystemTime;

use super::dir::Dir;
use super::held::{Held, discard_parked};
use super::key::Key;
use super::lock::{self, Lock};
use super::record::{AssetRecord, Memory, Record};
use super::store::Store;
use super::verify::Verified;
use crate::cancel::CancelToken;
use crate::error::ImageError;
use crate::image::{Asset, ImageSource};
use crate::name::FileName;

/// An asset of an image, and the verified file that it is to be.
#[derive(Debug)]
pub(crate) enum Publication {
    /// It stands under its final name already.
    InPlace(Verified),
    /// It waits under its key.
    Waiting(Held),
}

impl Publication {
    pub(crate) fn verified(&self) -> &Verified {
        match self {
            Self::InPlace(verified) => verified,
            Self::Waiting(held) => &held.verified,
        }
    }
}

/// Puts all assets of an image under their final names and records them. Gives back the lock of
/// the image: as long as the caller has it, nobody removes or replaces them. `None` means that
/// another process has changed one of them meanwhile, and that the caller looks again.
///
/// Who has an earlier file open keeps it: names are replaced, never contents.
pub(crate) fn publish(
    store: &Store,
    source: &ImageSource,
    assets: &mut [(&Asset, Publication)],
    sync: bool,
    cancel: &CancelToken,
) -> Result<Option<Lock>, ImageError> {
    // Only its record vouches for an asset without a pin. The asset itself was synced when it was
    // parked; one with a pin need not wait for the disk because of it.
    let sync_record = sync || assets.iter().any(|(asset, _)| asset.digest.is_none());
    let image_lock = store.lock_image(source.name(), cancel)?;
    let dir = store.ensure_image(source.name())?;
    refuse_newer_record(&dir)?;
    for (asset, publication) in assets.iter() {
        let inode = publication.verified().inode;
        if dir.has(&asset.file_name, inode) {
            continue;
        }
        let Publication::Waiting(held) = publication else {
            return Ok(None);
        };
        if !put_in_place(store, &dir, asset, held, sync, cancel)? {
            return Ok(None);
        }
    }
    let path = dir.path_of(super::RECORD_FILE);
    let earlier = Memory::read(&dir);
    let record = record_of(source, assets, earlier.record());
    if earlier.record() != Some(&record) {
        record
            .write(&dir, store.modes.published, sync_record)
            .map_err(|error| ImageError::io(&path, "write", error))?;
    }
    remove_files_of(earlier.record(), &record, &dir);
    if sync_record {
        store.root.sync().map_err(|error| ImageError::io(store.root.path(), "sync", error))?;
    }
    for (asset, publication) in assets {
        if let Publication::Waiting(held) = publication {
            held.leave(store, &Key::of(asset), cancel);
        }
    }
    Ok(Some(image_lock))
}

/// Removes what an earlier definition called by other names. What fails goes with the image.
fn remove_files_of(earlier: Option<&Record>, record: &Record, dir: &Dir) {
    let files = |record: &Record| -> Vec<String> {
        record.assets.values().map(|asset| asset.file.clone()).collect()
    };
    let current = files(record);
    for file in earlier.map(files).unwrap_or_default() {
        // The record may be forged: only a plain name is one of ours.
        if !current.contains(&file) && file.parse::<FileName>().is_ok() {
            let _ = dir.unlink(&file);
        }
    }
}

/// Refuses to change an image whose record a later version of this program has written.
pub(crate) fn refuse_newer_record(dir: &Dir) -> Result<(), ImageError> {
    match Record::newer_version(dir) {
        None => Ok(()),
        Some(version) => Err(ImageError::NewerLayout {
            path: dir.path_of(super::RECORD_FILE),
            found: version.to_string(),
            known: Record::VERSION,
        }),
    }
}

/// Puts the file that waits under its key under its final name, if it is still that file.
fn put_in_place(
    store: &Store,
    dir: &Dir,
    asset: &Asset,
    held: &Held,
    sync: bool,
    cancel: &CancelToken,
) -> Result<bool, ImageError> {
    let key = Key::of(asset);
    let _key_lock = lock::acquire(&store.locks, key.as_str(), store.modes.working, cancel, |_| {})?;
    if !store.partial.has(key.as_str(), held.verified.inode) {
        return Ok(false);
    }
    let path = dir.path_of(&asset.file_name);
    let failed = |action, error: io::Error| ImageError::io(&path, action, error);
    if sync {
        held.verified.file.sync_all().map_err(|error| failed("sync", error))?;
    }
    // A rename cannot replace a directory, which can only be damage under this name.
    if matches!(dir.stat(&asset.file_name), Ok(Some(stat)) if super::dir::is_directory(&stat)) {
        dir.remove_tree(&asset.file_name)?;
    }
    // It goes on waiting under its key as well until the record is written: other images and
    // assets that need it find it at either place. Another user's file cannot be linked, and is moved.
    let link = key.link_name();
    let link = store.partial.link_anew(key.as_str(), &link).is_ok().then_some(link);
    store
        .partial
        .rename(link.as_deref().unwrap_or(key.as_str()), dir, &asset.file_name)
        .map_err(|error| failed("install", error))?;
    // Where both names were links to one file, the rename has done nothing.
    match link {
        Some(link) => {
            let _ = store.partial.unlink(&link);
        }
        None => discard_parked(store, &key),
    }
    // Who shares the cache may have put something else under the key at the last moment.
    Ok(dir.has(&asset.file_name, held.verified.inode))
}

fn record_of(
    source: &ImageSource,
    assets: &[(&Asset, Publication)],
    earlier: Option<&Record>,
) -> Record {
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let record = |(asset, publication): &(&Asset, Publication)| {
        let verified = publication.verified();
        let note = match publication {
            Publication::Waiting(held) => held.note.as_ref(),
            Publication::InPlace(_) => None,
        };
        let unchanged = earlier
            .and_then(|record| record.asset(asset.kind))
            .filter(|record| record.sha256 == verified.digest && note.is_none());
        let entry = AssetRecord {
            file: asset.file_name.to_string(),
            url: asset.url.to_string(),
            url_sha256: asset.url.fingerprint(),
            sha256: verified.digest,
            size: verified.size,
            fetched_at: unchanged.map_or(now.clone(), |record| record.fetched_at.clone()),
            etag: match note {
                Some(note) => note.etag.clone(),
                None => unchanged.and_then(|record| record.etag.clone()),
            },
            last_modified: match note {
                Some(note) => note.last_modified.clone(),
                None => unchanged.and_then(|record| record.last_modified.clone()),
            },
        };
        (asset.kind.label().to_owned(), entry)
    };
    Record {
        version: Record::VERSION,
        name: source.name().to_string(),
        assets: assets.iter().map(record).collect(),
        boot_args: source.boot_args().map(str::to_owned),
    }
}
