//! The story of one `ensure_image`: look at every asset, have what is missing, publish.

use std::collections::BTreeSet;

use smolvm_fork::ForkMutex;

use crate::cache::{self, Key, Lock, Publication, Stamps, Store};
use crate::cancel::CancelToken;
use crate::error::ImageError;
use crate::fetch::{self, Fetch};
use crate::image::{Asset, ImageSource};
use crate::look::{Found, Looked, look, look_again};
use crate::manager::ImageManager;
use crate::name::ImageName;
use crate::open_image::VerifiedFiles;
use crate::options::FetchOptions;
use crate::side_by_side::side_by_side;
use crate::source::Validators;
use crate::transfer::{Space, Spare};
use crate::unchanged;
use crate::verify_policy::VerifyPolicy;
use crate::write_back;

/// How often another process may change the image under our hands before that is an error.
pub(crate) const ROUNDS: u32 = 8;

/// What becomes of an image after the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Usage {
    /// It lies in the cache.
    Cached,
    /// Its files are held with shared locks, so that nobody removes them.
    Held,
}

/// Makes the image of a definition be in the cache, whole and right, and returns the very files
/// that were hashed, open for reading.
pub(crate) fn ensure(
    manager: &ImageManager,
    source: &ImageSource,
    usage: Usage,
    options: &FetchOptions,
) -> Result<VerifiedFiles, ImageError> {
    if let Some(files) = unchanged::look(manager, source, usage, options) {
        cache::note_use(manager.cache_dir(), source.name());
        return Ok(files);
    }
    let mut refresh = options.refresh && !manager.offline;
    for _ in 0..ROUNDS {
        let looked = look(manager, source, options)?;
        let missing: Vec<_> = looked.missing().map(|asset| asset.kind).collect();
        if missing.is_empty() && !refresh {
            let files = looked.files(manager)?;
            if usage == Usage::Held {
                files.hold(&options.cancel)?;
                if !looked.is_in_place(manager)? {
                    log::info!("'{}' was removed by another process", source.name());
                    continue;
                }
            }
            let stamps = unchanged::note(manager, source, looked.verified());
            let in_place: Vec<_> =
                looked.verified().map(|(kind, verified)| (kind, verified.inode)).collect();
            settle(manager, source, looked, &options.cancel);
            // Whoever put them there need not have synced them.
            let sync = stamps != Stamps::default();
            write_back::begin(manager, source, &in_place, (stamps, sync), &options.cancel);
            cache::note_use(manager.cache_dir(), source.name());
            return Ok(files);
        }
        if manager.offline {
            return from_leavings(manager, source, looked, (usage, options)).map_err(|error| {
                match error {
                    ImageError::Cancelled => error,
                    _ => ImageError::Offline {
                        image: source.name().to_string(),
                        missing,
                        directory: manager.image_dir(source.name()),
                    },
                }
            });
        }
        warn_of_missing_pins(source);
        let store = Store::create(manager.cache_dir())?;
        if let Some(dir) = store.root.open_dir(source.name())? {
            cache::refuse_newer_record(&dir)?;
        }
        // Who had it before has left stamps.
        let _fetching = wait_for_fetch(manager, &store, &looked, options)?;
        if let Some(files) = unchanged::look(manager, source, usage, options) {
            cache::note_use(manager.cache_dir(), source.name());
            return Ok(files);
        }
        let assets = obtain(manager, &store, source, looked, options, refresh)?;
        refresh = false;
        if let Some(files) = publish(manager, &store, source, assets, (usage, options))? {
            return Ok(files);
        }
        log::info!("'{}' was changed by another process; looking again", source.name());
    }
    Err(ImageError::Contended { image: source.name().to_string() })
}

/// Where stamps count, one process at a time fetches an image, and notes what it has verified, so
/// that the others need not hash it once more.
fn wait_for_fetch(
    manager: &ImageManager,
    store: &Store,
    looked: &Looked<'_>,
    options: &FetchOptions,
) -> Result<Option<Lock>, ImageError> {
    if manager.verify != VerifyPolicy::Changed {
        return Ok(None);
    }
    let lock = store.lock_fetch(&looked.name, &options.cancel, |holder| {
        for asset in looked.missing() {
            fetch::say_who_is_waited_for(&looked.name, asset.kind, holder, options);
        }
    })?;
    Ok(Some(lock))
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
    let (space, unused) = (Space::default(), Spare::default());
    let Looked { memory, found, .. } = looked;
    side_by_side(found, &options.cancel, |(asset, found), cancel| {
        let fetch =
            Fetch { store, manager, source, space: &space, spare: &unused, options, cancel };
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
    (usage, options): (Usage, &FetchOptions),
) -> Result<VerifiedFiles, ImageError> {
    let nothing = || ImageError::NotCached { image: source.name().to_string() };
    if cache::open_root(manager.cache_dir())?.is_none() {
        return Err(nothing());
    }
    let store = Store::create(manager.cache_dir())?;
    let (space, unused) = (Space::default(), Spare::default());
    let assets = side_by_side(looked.found, &options.cancel, |(asset, found), cancel| {
        let fetch = Fetch {
            store: &store,
            manager,
            source,
            space: &space,
            spare: &unused,
            options,
            cancel,
        };
        let had = match found {
            Found::Nothing { .. } => fetch.obtain_here(asset)?.ok_or_else(nothing)?,
            Found::Good(found) => found,
        };
        Ok((asset, had))
    })?;
    publish(manager, &store, source, assets, (usage, options))?.ok_or_else(nothing)
}

/// Puts the assets under their final names, and opens them there; `None` where another process has
/// changed one of them meanwhile.
fn publish(
    manager: &ImageManager,
    store: &Store,
    source: &ImageSource,
    mut assets: Vec<(&Asset, Publication)>,
    (usage, options): (Usage, &FetchOptions),
) -> Result<Option<VerifiedFiles>, ImageError> {
    let cancel = &options.cancel;
    let Some(lock) = cache::publish(store, source, &mut assets, manager.write_back.sync, cancel)?
    else {
        return Ok(None);
    };
    let Some(files) = reopen(store, source, &assets)? else { return Ok(None) };
    if usage == Usage::Held {
        files.hold(cancel)?;
    }
    drop(lock);
    tidy(store, source)?;
    let stamps = unchanged::note_fetched(manager, source, &files, &assets);
    let published: Vec<_> =
        assets.iter().map(|(asset, had)| (asset.kind, had.verified().inode)).collect();
    // What fetched them could write.
    drop(assets);
    write_back::begin(manager, source, &published, (stamps, !manager.write_back.sync), cancel);
    cache::note_use(manager.cache_dir(), source.name());
    Ok(Some(files))
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
        let opened = dir.open_this_file(&asset.file_name, publication.verified().inode);
        let path = dir.path_of(&asset.file_name);
        match opened.map_err(|error| ImageError::io(&path, "open", error))? {
            Some(file) => files.put(asset.kind, file),
            None => return Ok(None),
        }
    }
    Ok(Some(files))
}

/// What a hit leaves to do where the cache can be written to: record what was adopted, remove
/// what a killed process left. The image is there whether it works or not.
fn settle(manager: &ImageManager, source: &ImageSource, looked: Looked<'_>, cancel: &CancelToken) {
    let Looked { memory, found, .. } = looked;
    let good = |(asset, found)| match found {
        Found::Good(found) => Some((asset, found)),
        Found::Nothing { .. } => None,
    };
    let mut assets: Vec<(&Asset, Publication)> = found.into_iter().filter_map(good).collect();
    let recorded = assets.iter().all(|(asset, found)| {
        let recorded = memory.of(asset.kind).of(asset);
        recorded.is_some_and(|recorded| recorded.sha256 == found.verified().digest)
    });
    let mut settled = || -> Result<(), ImageError> {
        let keys = source.assets().map(Key::of);
        if recorded && !cache::has_leavings(manager.cache_dir(), keys)? {
            return Ok(());
        }
        let store = Store::create(manager.cache_dir())?;
        if !recorded {
            cache::publish(&store, source, &mut assets, manager.write_back.sync, cancel)?;
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
