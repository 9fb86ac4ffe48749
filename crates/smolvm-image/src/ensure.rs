//! The story of one `ensure_image`: look at every asset, have what is missing, publish.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::cache::{self, Dir, Finding, Key, Publication, Record, Store};
use crate::cancel::CancelToken;
use crate::error::ImageError;
use crate::fetch::Fetch;
use crate::image::{Asset, ImageSource};
use crate::manager::ImageManager;
use crate::name::ImageName;
use crate::options::FetchOptions;
use crate::progress::Event;
use crate::source::Validators;
use crate::transfer::Space;

/// How often another process may change the image under our hands before that is an error.
const ROUNDS: u32 = 8;

/// Makes the image of a definition be in the cache, whole and right.
pub(crate) fn ensure(
    manager: &ImageManager,
    source: &ImageSource,
    options: &FetchOptions,
) -> Result<(), ImageError> {
    let mut refresh = options.refresh && !manager.offline();
    for _ in 0..ROUNDS {
        let looked = look(manager, source, options)?;
        if looked.found.iter().all(|(_, found)| found.is_some()) && !refresh {
            settle(manager, source, looked, &options.cancel);
            return Ok(());
        }
        if manager.offline() {
            let missing = looked.found.iter().filter(|(_, found)| found.is_none());
            return Err(ImageError::Offline {
                image: source.name().to_string(),
                missing: missing.map(|(asset, _)| asset.kind).collect(),
                directory: manager.cache_dir().join(source.name().as_str()),
            });
        }
        warn_of_missing_pins(source);
        let store = Store::create(manager.cache_dir())?;
        let assets = obtain(manager, &store, source, looked, options, refresh)?;
        refresh = false;
        if cache::publish(&store, source, &assets, manager.sync(), &options.cancel)? {
            return tidy(&store, source);
        }
        log::info!(
            "'{}' was changed by another process meanwhile; looking again",
            source.name()
        );
    }
    Err(ImageError::Contended {
        image: source.name().to_string(),
    })
}

/// What the cache has of an image: the record, and each asset unless it must be had.
struct Looked<'a> {
    record: Option<Record>,
    found: Vec<(&'a Asset, Option<Publication>)>,
}

/// Hashes what the cache has, all assets side by side. Writes nothing.
fn look<'a>(
    manager: &ImageManager,
    source: &'a ImageSource,
    options: &FetchOptions,
) -> Result<Looked<'a>, ImageError> {
    let dir = cache::open_image(manager.cache_dir(), source.name())?;
    let record = dir.as_ref().and_then(Record::read);
    let found = side_by_side(
        source.assets().collect(),
        &options.cancel,
        |asset, cancel| {
            let found = match &dir {
                Some(dir) => look_at(dir, asset, record.as_ref(), options, cancel)?,
                None => None,
            };
            Ok((asset, found))
        },
    )?;
    Ok(Looked { record, found })
}

fn look_at(
    dir: &Dir,
    asset: &Asset,
    record: Option<&Record>,
    options: &FetchOptions,
    cancel: &CancelToken,
) -> Result<Option<Publication>, ImageError> {
    let recorded = record.and_then(|record| record.asset(asset.kind));
    let on_hash = |size| options.emit(asset.kind, &Event::Verifying { size });
    match cache::check(dir, asset, recorded, cancel, on_hash)? {
        Finding::Good(verified) => {
            options.emit(
                asset.kind,
                &Event::Cached {
                    size: verified.size,
                },
            );
            Ok(Some(Publication::InPlace(verified)))
        }
        Finding::Missing => Ok(None),
        Finding::Damaged(reason) => {
            let path = dir.path_of(&asset.file_name);
            log::warn!("{} cannot be used: {reason}", path.display());
            options.emit(asset.kind, &Event::Damaged { reason });
            Ok(None)
        }
    }
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
    let Looked { record, found } = looked;
    side_by_side(found, &options.cancel, |(asset, found), cancel| {
        let fetch = Fetch {
            store,
            manager,
            source,
            space: &space,
            options,
            cancel,
        };
        let had = match found {
            None => fetch.obtain(asset, || look_again(store, source, asset, options, cancel))?,
            Some(found) if refresh && asset.digest.is_none() => {
                let recorded = record.as_ref().and_then(|record| record.asset(asset.kind));
                let known = recorded.filter(|recorded| recorded.is_of(asset));
                let known = known.map(Validators::from).unwrap_or_default();
                fetch
                    .refresh(asset, &known)?
                    .map_or(found, Publication::Waiting)
            }
            Some(found) => found,
        };
        Ok((asset, had))
    })
}

/// Looks under the final name after waiting: who held the lock may have published it.
fn look_again(
    store: &Store,
    source: &ImageSource,
    asset: &Asset,
    options: &FetchOptions,
    cancel: &CancelToken,
) -> Result<Option<Publication>, ImageError> {
    let Some(dir) = store.root.open_dir(source.name())? else {
        return Ok(None);
    };
    let record = Record::read(&dir);
    let recorded = record.as_ref().and_then(|record| record.asset(asset.kind));
    let Finding::Good(verified) = cache::check(&dir, asset, recorded, cancel, |_| {})? else {
        return Ok(None);
    };
    options.emit(
        asset.kind,
        &Event::Cached {
            size: verified.size,
        },
    );
    Ok(Some(Publication::InPlace(verified)))
}

/// What a hit leaves to do where the cache can be written to: record what was adopted, remove
/// what a killed process left. The image is there whether it works or not.
fn settle(manager: &ImageManager, source: &ImageSource, looked: Looked<'_>, cancel: &CancelToken) {
    let Looked { record, found } = looked;
    let assets: Vec<_> = found
        .into_iter()
        .filter_map(|(asset, found)| Some((asset, found?)))
        .collect();
    let recorded = assets.iter().all(|(asset, found)| {
        let recorded = record.as_ref().and_then(|record| record.asset(asset.kind));
        recorded.is_some_and(|recorded| {
            recorded.is_of(asset) && recorded.sha256 == found.verified().digest
        })
    });
    let settled = || -> Result<(), ImageError> {
        let keys = source.assets().map(Key::of);
        if recorded && !cache::has_leavings(manager.cache_dir(), keys)? {
            return Ok(());
        }
        let store = Store::create(manager.cache_dir())?;
        if !recorded {
            cache::publish(&store, source, &assets, manager.sync(), cancel)?;
        }
        tidy(&store, source)
    };
    if let Err(error) = settled() {
        log::debug!("the cache stays as it is: {error}");
    }
}

/// Removes what transfers of this image have left.
fn tidy(store: &Store, source: &ImageSource) -> Result<(), ImageError> {
    source
        .assets()
        .try_for_each(|asset| cache::tidy(store, &Key::of(asset)))
}

/// Says once per process of an image that nothing vouches for what is fetched.
fn warn_of_missing_pins(source: &ImageSource) {
    static WARNED: Mutex<BTreeSet<ImageName>> = Mutex::new(BTreeSet::new());
    let unpinned: Vec<_> = source
        .assets()
        .filter(|asset| asset.digest.is_none())
        .collect();
    if unpinned.is_empty() {
        return;
    }
    let mut warned = WARNED.lock().unwrap_or_else(PoisonError::into_inner);
    if warned.insert(source.name().clone()) {
        let kinds: Vec<_> = unpinned.iter().map(|asset| asset.kind.label()).collect();
        log::warn!(
            "'{}' has no SHA-256 digest for its {}: what is fetched is not checked against anything, only recorded. To pin it: smolvm image pin {}",
            source.name(),
            kinds.join(" and "),
            source.name()
        );
    }
}

/// Runs `work` for every item on a thread of its own. When one fails the others are cancelled;
/// the error is that of the first that failed by itself.
pub(crate) fn side_by_side<T: Send, R: Send>(
    items: Vec<T>,
    cancel: &CancelToken,
    work: impl Fn(T, &CancelToken) -> Result<R, ImageError> + Sync,
) -> Result<Vec<R>, ImageError> {
    let siblings = cancel.child();
    let failed: Mutex<Option<ImageError>> = Mutex::new(None);
    let run = |item: T| {
        let done = work(item, &siblings);
        done.map_err(|error| {
            let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
            failed.get_or_insert(error);
            siblings.cancel();
        })
        .ok()
    };
    let results: Vec<Option<R>> = thread::scope(|scope| {
        let threads: Vec<_> = items
            .into_iter()
            .map(|item| scope.spawn(|| run(item)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().ok().flatten())
            .collect()
    });
    if cancel.is_cancelled() {
        return Err(ImageError::Cancelled);
    }
    match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(results.into_iter().flatten().collect()),
    }
}
