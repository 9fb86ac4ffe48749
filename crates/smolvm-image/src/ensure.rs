//! The story of one `ensure_image`: look at every asset, have what is missing, publish.

use std::collections::BTreeSet;

use smolvm_fork::ForkMutex;

use crate::cache::{self, Dir, Finding, Inode, Key, Memory, Publication, Store};
use crate::cancel::CancelToken;
use crate::error::ImageError;
use crate::fetch::Fetch;
use crate::image::{Asset, ImageSource};
use crate::manager::ImageManager;
use crate::name::ImageName;
use crate::open_image::VerifiedFiles;
use crate::options::FetchOptions;
use crate::progress::Event;
use crate::side_by_side::side_by_side;
use crate::source::Validators;
use crate::transfer::Space;

/// How often another process may change the image under our hands before that is an error.
const ROUNDS: u32 = 8;

/// Makes the image of a definition be in the cache, whole and right, and returns the very files
/// that were hashed, open for reading.
pub(crate) fn ensure(
    manager: &ImageManager,
    source: &ImageSource,
    options: &FetchOptions,
) -> Result<VerifiedFiles, ImageError> {
    let mut refresh = options.refresh && !manager.offline;
    for _ in 0..ROUNDS {
        let looked = look(manager, source, options)?;
        let missing: Vec<_> = looked.missing().map(|asset| asset.kind).collect();
        if missing.is_empty() && !refresh {
            let files = looked.files(manager)?;
            settle(manager, source, looked, &options.cancel);
            return Ok(files);
        }
        if manager.offline {
            return from_leavings(manager, source, looked, options).map_err(|error| match error {
                ImageError::Cancelled => error,
                _ => ImageError::Offline {
                    image: source.name().to_string(),
                    missing,
                    directory: manager.image_dir(source.name()),
                },
            });
        }
        warn_of_missing_pins(source);
        let store = Store::create(manager.cache_dir())?;
        if let Some(dir) = store.root.open_dir(source.name())? {
            cache::refuse_newer_record(&dir)?;
        }
        let assets = obtain(manager, &store, source, looked, options, refresh)?;
        refresh = false;
        if cache::publish(&store, source, &assets, manager.sync, &options.cancel)?
            && let Some(files) = reopen(&store, source, &assets)?
        {
            tidy(&store, source)?;
            return Ok(files);
        }
        log::info!("'{}' was changed by another process; looking again", source.name());
    }
    Err(ImageError::Contended { image: source.name().to_string() })
}

/// What the cache has of an image.
struct Looked<'a> {
    name: ImageName,
    memory: Memory,
    found: Vec<(&'a Asset, Found)>,
}

/// What the cache has of an asset.
enum Found {
    /// It is there and right.
    Good(Publication),
    /// It must be had. What lies under its name, if anything, cannot be used.
    Nothing { in_its_place: Option<Inode> },
}

impl Looked<'_> {
    /// The files of an image of which nothing is missing.
    fn files(&self, manager: &ImageManager) -> Result<VerifiedFiles, ImageError> {
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

    fn missing(&self) -> impl Iterator<Item = &Asset> {
        let missing = |(_, found): &&(_, Found)| matches!(found, Found::Nothing { .. });
        self.found.iter().filter(missing).map(|(asset, _)| *asset)
    }
}

/// Hashes what the cache has, all assets side by side. Writes nothing.
fn look<'a>(
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

/// Has what is missing, all assets side by side; when one fails for good, the others end.
fn obtain<'a>(
    manager: &ImageManager,
    store: &Store,
    source: &'a ImageSource,
    looked: Looked<'a>,
    options: &FetchOptions,
    refresh: bool,
) -> Result<Vec<(&'a Asset, Publication)>, ImageError> {
    let space = Space::default();
    let Looked { memory, found, .. } = looked;
    side_by_side(found, &options.cancel, |(asset, found), cancel| {
        let fetch = Fetch { store, manager, source, space: &space, options, cancel };
        let had = match found {
            Found::Nothing { in_its_place } => fetch.obtain(asset, || {
                look_again(store, source, asset, (in_its_place, &memory), options, cancel)
            })?,
            Found::Good(found) if refresh && asset.digest.is_none() => {
                let known = memory.of(asset.kind).of(asset);
                let known = known.map(Validators::from).unwrap_or_default();
                fetch.refresh(asset, &known)?.map_or(found, Publication::Waiting)
            }
            Found::Good(found) => found,
        };
        Ok((asset, had))
    })
}

/// Has what is missing from what is on this machine, without the network and without waiting.
fn from_leavings(
    manager: &ImageManager,
    source: &ImageSource,
    looked: Looked<'_>,
    options: &FetchOptions,
) -> Result<VerifiedFiles, ImageError> {
    let nothing = || ImageError::NotCached { image: source.name().to_string() };
    if cache::open_root(manager.cache_dir())?.is_none() {
        return Err(nothing());
    }
    let store = Store::create(manager.cache_dir())?;
    let space = Space::default();
    let assets = side_by_side(looked.found, &options.cancel, |(asset, found), cancel| {
        let fetch = Fetch { store: &store, manager, source, space: &space, options, cancel };
        let had = match found {
            Found::Nothing { .. } => fetch.obtain_here(asset)?.ok_or_else(nothing)?,
            Found::Good(found) => found,
        };
        Ok((asset, had))
    })?;
    if cache::publish(&store, source, &assets, manager.sync, &options.cancel)?
        && let Some(files) = reopen(&store, source, &assets)?
    {
        tidy(&store, source)?;
        return Ok(files);
    }
    Err(nothing())
}

/// The files that were just published, open for reading alone: what fetched them could write.
/// `None` where another process has replaced one of them already.
fn reopen(
    store: &Store,
    source: &ImageSource,
    assets: &[(&Asset, Publication)],
) -> Result<Option<VerifiedFiles>, ImageError> {
    let Some(dir) = store.root.open_dir(source.name())? else { return Ok(None) };
    let mut files = VerifiedFiles::default();
    for (asset, publication) in assets {
        let opened = dir.open_file(&asset.file_name).and_then(|file| {
            let Some(file) = file else { return Ok(None) };
            let inode = Inode::of(&rustix::fs::fstat(&file)?);
            Ok((inode == publication.verified().inode).then_some(file))
        });
        let path = dir.path_of(&asset.file_name);
        match opened.map_err(|error| ImageError::io(&path, "open", error))? {
            Some(file) => files.put(asset.kind, file),
            None => return Ok(None),
        }
    }
    Ok(Some(files))
}

/// Looks under the final name once more with the lock in hand: who had it before may have
/// published the asset. What was found wrong already is not hashed again.
fn look_again(
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
    let finding = cache::check(&dir, asset, memory.of(asset.kind), cancel, |_| {})?;
    let Finding::Good(verified) = finding else {
        return Ok(None);
    };
    options.emit(asset.kind, &Event::Cached { size: verified.size });
    Ok(Some(Publication::InPlace(verified)))
}

/// What a hit leaves to do where the cache can be written to: record what was adopted, remove
/// what a killed process left. The image is there whether it works or not.
fn settle(manager: &ImageManager, source: &ImageSource, looked: Looked<'_>, cancel: &CancelToken) {
    let Looked { memory, found, .. } = looked;
    let good = |(asset, found)| match found {
        Found::Good(found) => Some((asset, found)),
        Found::Nothing { .. } => None,
    };
    let assets: Vec<(&Asset, Publication)> = found.into_iter().filter_map(good).collect();
    let recorded = assets.iter().all(|(asset, found)| {
        let recorded = memory.of(asset.kind).of(asset);
        recorded.is_some_and(|recorded| recorded.sha256 == found.verified().digest)
    });
    let settled = || -> Result<(), ImageError> {
        let keys = source.assets().map(Key::of);
        if recorded && !cache::has_leavings(manager.cache_dir(), keys)? {
            return Ok(());
        }
        let store = Store::create(manager.cache_dir())?;
        if !recorded {
            cache::publish(&store, source, &assets, manager.sync, cancel)?;
        }
        tidy(&store, source)
    };
    if let Err(error) = settled() {
        log::debug!("the cache stays as it is: {error}");
    }
}

/// Removes what transfers of this image have left.
fn tidy(store: &Store, source: &ImageSource) -> Result<(), ImageError> {
    source.assets().try_for_each(|asset| cache::tidy(store, &Key::of(asset)))
}

/// Says once per process of an image that nothing vouches for what is fetched.
fn warn_of_missing_pins(source: &ImageSource) {
    static WARNED: ForkMutex<BTreeSet<ImageName>> = ForkMutex::new(BTreeSet::new());
    let unpinned = source.assets().filter(|asset| asset.digest.is_none());
    let kinds: Vec<_> = unpinned.map(|asset| asset.kind.label()).collect();
    if !kinds.is_empty() && WARNED.lock().insert(source.name().clone()) {
        log::warn!(
            "'{name}' has no SHA-256 digest for its {}: what is fetched is not checked against anything, only recorded. To pin it: smolvm image pin {name}",
            kinds.join(" and "),
            name = source.name(),
        );
    }
}
