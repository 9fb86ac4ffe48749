//! What the cache has of an image: every asset under its final name, every byte hashed. Writes
//! nothing.

use crate::cache::{self, Dir, Finding, Inode, Memory, Publication, Store, Verified};
use crate::cancel::CancelToken;
use crate::ensure::ROUNDS;
use crate::error::ImageError;
use crate::image::{Asset, ImageSource};
use crate::manager::ImageManager;
use crate::name::ImageName;
use crate::open_image::VerifiedFiles;
use crate::options::FetchOptions;
use crate::progress::{AssetKind, Event};
use crate::side_by_side::side_by_side;

/// What the cache has of an image.
pub(crate) struct Looked<'a> {
    pub(crate) name: ImageName,
    pub(crate) memory: Memory,
    pub(crate) found: Vec<(&'a Asset, Found)>,
}

/// What the cache has of an asset.
pub(crate) enum Found {
    /// It is there and right.
    Good(Publication),
    /// It must be had. What lies under its name, if anything, cannot be used.
    Nothing { in_its_place: Option<Inode> },
}

impl Looked<'_> {
    /// The files of an image of which nothing is missing.
    pub(crate) fn files(&self, manager: &ImageManager) -> Result<VerifiedFiles, ImageError> {
        let mut files = VerifiedFiles::default();
        for (asset, found) in &self.found {
            if let Found::Good(found) = found {
                let file = found.verified().file.try_clone();
                let path = manager.image_dir(&self.name).join(asset.file_name.as_str());
                files.put(asset.kind, file.map_err(|error| ImageError::io(&path, "keep", error))?);
            }
        }
        Ok(files)
    }

    /// Whether all that was found still has its name.
    pub(crate) fn is_in_place(&self, manager: &ImageManager) -> Result<bool, ImageError> {
        let Some(dir) = cache::open_image(manager.cache_dir(), &self.name)? else {
            return Ok(false);
        };
        Ok(self.found.iter().all(|(asset, found)| match found {
            Found::Good(found) => dir.has(&asset.file_name, found.verified().inode),
            Found::Nothing { .. } => false,
        }))
    }

    /// What was found right.
    pub(crate) fn verified(&self) -> impl Iterator<Item = (AssetKind, &Verified)> + Clone {
        self.found.iter().filter_map(|(asset, found)| match found {
            Found::Good(found) => Some((asset.kind, found.verified())),
            Found::Nothing { .. } => None,
        })
    }

    pub(crate) fn missing(&self) -> impl Iterator<Item = &Asset> {
        let missing = |(_, found): &&(_, Found)| matches!(found, Found::Nothing { .. });
        self.found.iter().filter(missing).map(|(asset, _)| *asset)
    }
}

/// Hashes what the cache has, all assets side by side. Writes nothing.
pub(crate) fn look<'a>(
    manager: &ImageManager,
    source: &'a ImageSource,
    options: &FetchOptions,
) -> Result<Looked<'a>, ImageError> {
    let mut rounds = ROUNDS;
    loop {
        let dir = cache::open_image(manager.cache_dir(), source.name())?;
        let memory = dir.as_ref().map_or(Memory::None, Memory::read);
        let found = side_by_side(source.assets().collect(), &options.cancel, |asset, cancel| {
            let found = match &dir {
                Some(dir) => look_at(dir, asset, &memory, options, cancel)?,
                None => Found::Nothing { in_its_place: None },
            };
            Ok((asset, found))
        })?;
        let looked = Looked { name: source.name().clone(), memory, found };
        // Files go to their places before their record does: who looked in between has held new
        // files against the old record.
        let changed = dir.is_some_and(|dir| Memory::read(&dir) != looked.memory);
        rounds -= 1;
        if !changed || looked.missing().next().is_none() || rounds == 0 {
            return Ok(looked);
        }
    }
}

fn look_at(
    dir: &Dir,
    asset: &Asset,
    memory: &Memory,
    options: &FetchOptions,
    cancel: &CancelToken,
) -> Result<Found, ImageError> {
    let in_its_place = dir.inode_of(&asset.file_name);
    let on_hash = |size| options.emit(asset.kind, &Event::Verifying { size });
    match cache::check(dir, asset, memory.of(asset.kind), cancel, on_hash)? {
        Finding::Good(verified) => {
            options.emit(asset.kind, &Event::Cached { size: verified.size });
            return Ok(Found::Good(Publication::InPlace(verified)));
        }
        Finding::Missing => {}
        Finding::Damaged(reason) => {
            let path = dir.path_of(&asset.file_name);
            log::warn!("{} cannot be used: {reason}", path.display());
            options.emit(asset.kind, &Event::Damaged { reason });
        }
    }
    Ok(Found::Nothing { in_its_place })
}

/// Looks under the final name once more with the lock in hand: who had it before may have
/// published the asset. What was found wrong already is not hashed again.
pub(crate) fn look_again(
    store: &Store,
    source: &ImageSource,
    asset: &Asset,
    (in_its_place, known): (Option<Inode>, &Memory),
    options: &FetchOptions,
    cancel: &CancelToken,
) -> Result<Option<Publication>, ImageError> {
    let Some(dir) = store.root.open_dir(source.name())? else {
        return Ok(None);
    };
    let memory = Memory::read(&dir);
    if dir.inode_of(&asset.file_name) == in_its_place && memory == *known {
        return Ok(None);
    }
    let on_hash = |size| options.emit(asset.kind, &Event::Verifying { size });
    let finding = cache::check(&dir, asset, memory.of(asset.kind), cancel, on_hash)?;
    let Finding::Good(verified) = finding else {
        return Ok(None);
    };
    options.emit(asset.kind, &Event::Cached { size: verified.size });
    Ok(Some(Publication::InPlace(verified)))
}
