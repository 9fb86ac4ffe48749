//! Hits without a pass over the bytes, for [`VerifyPolicy::Changed`]: files that are as they were
//! when they were last verified.

use std::collections::HashMap;
use std::fs::File;
use std::thread;
use std::time::Duration;

use smolvm_fork::ForkMutex;

use crate::cache::{
    self, FileState, Inode, Memory, Moment, Publication, Stamp, Stamps, Steady, Store, Verified,
};
use crate::digest::Digest;
use crate::ensure::Usage;
use crate::image::{Asset, ImageSource};
use crate::manager::ImageManager;
use crate::name::ImageName;
use crate::open_image::VerifiedFiles;
use crate::options::FetchOptions;
use crate::progress::{AssetKind, Event};
use crate::verify_policy::VerifyPolicy;
use crate::write_back;

/// The stamps of the images that a manager has seen; the cache has them as well, for other
/// processes.
#[derive(Debug, Default)]
pub(crate) struct KnownStamps(ForkMutex<HashMap<ImageName, Stamps>>);

impl KnownStamps {
    fn get(&self, image: &ImageName) -> Option<Stamps> {
        self.0.lock().get(image).cloned()
    }

    fn put(&self, image: &ImageName, stamps: Stamps) {
        self.0.lock().insert(image.clone(), stamps);
    }
}

/// The files of an image, where the policy allows it and stamps show that all are as they were.
pub(crate) fn look(
    manager: &ImageManager,
    source: &ImageSource,
    usage: Usage,
    options: &FetchOptions,
) -> Option<VerifiedFiles> {
    if manager.verify != VerifyPolicy::Changed || options.refresh {
        return None;
    }
    let dir = cache::open_image(&manager.cache_dir, source.name()).ok()??;
    // Only without a pin it matters what was recorded.
    let all_pinned = source.assets().all(|asset| asset.digest.is_some());
    let memory = if all_pinned { Memory::None } else { Memory::read(&dir) };
    let check = |stamps: &Stamps| -> Option<Vec<(AssetKind, Verified)>> {
        let unchanged = |asset: &Asset| {
            let recorded = memory.of(asset.kind);
            let found = cache::unchanged(&dir, asset, recorded, stamps.of(asset.kind))?;
            Some((asset.kind, found))
        };
        source.assets().map(unchanged).collect()
    };
    let known = manager.stamps.get(source.name());
    let found = if let Some(found) = known.as_ref().and_then(check) {
        found
    } else {
        let stamps = Stamps::read(&dir);
        let found = check(&stamps)?;
        manager.stamps.put(source.name(), stamps);
        found
    };
    let mut files = VerifiedFiles::default();
    let mut all = Vec::new();
    for (kind, verified) in found {
        all.push((kind, verified.inode, verified.size));
        files.put(kind, verified.file);
    }
    if usage == Usage::Held {
        files.hold(&options.cancel).ok()?;
        // They may have lost their names before that.
        let name_of = |kind| source.assets().find(|asset| asset.kind == kind);
        let dir = cache::open_image(&manager.cache_dir, source.name()).ok()??;
        let in_place = |(kind, inode, _): &(AssetKind, Inode, u64)| {
            name_of(*kind).is_some_and(|asset| dir.has(&asset.file_name, *inode))
        };
        if !all.iter().all(in_place) {
            return None;
        }
    }
    if manager.write_back.fs_verity {
        let in_place: Vec<_> = all.iter().map(|&(kind, inode, _)| (kind, inode)).collect();
        let stamps = manager.stamps.get(source.name()).unwrap_or_default();
        write_back::begin(manager, source, &in_place, (stamps, false), &options.cancel);
    }
    for (kind, _, size) in all {
        options.emit(kind, &Event::Cached { size });
    }
    Some(files)
}

/// Notes what was verified by hashing files in their places; gives back what was noted. What has
/// changed too lately for the next change to show, or belongs to somebody else, is left out.
pub(crate) fn note<'a>(
    manager: &ImageManager,
    source: &ImageSource,
    verified: impl Iterator<Item = (AssetKind, &'a Verified)>,
) -> Stamps {
    if manager.verify != VerifyPolicy::Changed {
        return Stamps::default();
    }
    let stamp = |(kind, verified): (AssetKind, &Verified)| {
        Some((kind, stamp(*verified.steady.as_deref()?, verified.digest, false)))
    };
    keep(manager, source, verified.filter_map(stamp))
}

/// Notes what was just fetched and published; gives back what was noted.
pub(crate) fn note_fetched(
    manager: &ImageManager,
    source: &ImageSource,
    files: &VerifiedFiles,
    assets: &[(&Asset, Publication)],
) -> Stamps {
    if manager.verify != VerifyPolicy::Changed {
        return Stamps::default();
    }
    let stamps = assets.iter().filter_map(|(asset, publication)| {
        let verified = publication.verified();
        let verity = verified.steady.as_deref().and_then(|steady| steady.verity);
        let steady = Steady { state: settled(files.get(asset.kind)?)?, verity };
        let synced = manager.write_back.syncs(asset);
        Some((asset.kind, stamp(steady, verified.digest, synced)))
    });
    keep(manager, source, stamps)
}

/// The state of a file, once a later change is sure to show. That takes one tick of the kernel's
/// clock; where it takes longer, the file is hashed the next time.
fn settled(file: &File) -> Option<FileState> {
    const TICK: Duration = Duration::from_millis(1);
    const TICKS: u32 = 20;
    for _ in 0..TICKS {
        let state = cache::own_state(file)?;
        if state.shows_changes_after(Moment::now()) {
            return Some(state);
        }
        thread::sleep(TICK);
    }
    None
}

fn stamp(Steady { state, verity }: Steady, digest: Digest, synced: bool) -> Stamp {
    Stamp { state, digest, boot_id: cache::boot_id().to_owned(), synced, verity }
}

/// Keeps stamps in memory and in the cache; where it cannot be written to, memory must do. Gives
/// them back.
fn keep(
    manager: &ImageManager,
    source: &ImageSource,
    new: impl Iterator<Item = (AssetKind, Stamp)>,
) -> Stamps {
    let mut stamps = Stamps::default();
    for (kind, stamp) in new {
        stamps.put(kind, stamp);
    }
    if stamps == Stamps::default() {
        return stamps;
    }
    manager.stamps.put(source.name(), stamps.clone());
    let kept = Store::open(&manager.cache_dir)
        .and_then(|store| store.map_or(Ok(()), |store| stamps.write(&store, source.name())));
    if let Err(error) = kept {
        log::debug!("stamps are kept in memory alone: {error}");
    }
    stamps
}
