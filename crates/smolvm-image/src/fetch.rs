//! Having one asset that the cache lacks: from another image, from what an earlier transfer left,
//! or from its source. All of it under the lock of the asset's key, so that it happens once.

use crate::cache::{self, Held, Key, Partial, Publication, Store};
use crate::cancel::CancelToken;
use crate::digest::Digest;
use crate::error::ImageError;
use crate::image::{Asset, ImageSource};
use crate::manager::ImageManager;
use crate::name::ImageName;
use crate::options::FetchOptions;
use crate::progress::{AssetKind, Event};
use crate::sniff;
use crate::source::Validators;
use crate::transfer::{self, Outcome, Space, Spare, Stop, Transfer, TransferError};

/// What having an asset takes; shared by the assets of one image.
#[derive(Clone, Copy)]
pub(crate) struct Fetch<'a> {
    pub(crate) store: &'a Store,
    pub(crate) manager: &'a ImageManager,
    pub(crate) source: &'a ImageSource,
    pub(crate) space: &'a Space,
    pub(crate) spare: &'a Spare,
    pub(crate) options: &'a FetchOptions,
    pub(crate) cancel: &'a CancelToken,
}

impl Fetch<'_> {
    /// Waits for the lock of the asset's key, then has the asset the cheapest way. `look` looks
    /// once more under the final name: who held the lock may have published it.
    pub(crate) fn obtain(
        &self,
        asset: &Asset,
        look: impl FnOnce() -> Result<Option<Publication>, ImageError>,
    ) -> Result<Publication, ImageError> {
        let key = Key::of(asset);
        let _lock = self.lock(asset, &key)?;
        if let Some(publication) = look()? {
            return Ok(publication);
        }
        if let Some(publication) = self.on_this_machine(asset, &key)? {
            return Ok(publication);
        }
        match self.fetch(asset, &key, None)? {
            Some(held) => Ok(Publication::Waiting(held)),
            // Nobody asked whether it is unchanged.
            None => Err(ImageError::Contended { image: self.source.name().to_string() }),
        }
    }

    /// As [`obtain`](Self::obtain), but without the network and without waiting.
    pub(crate) fn obtain_here(&self, asset: &Asset) -> Result<Option<Publication>, ImageError> {
        let key = Key::of(asset);
        let Store { locks, modes, .. } = self.store;
        match cache::try_acquire(locks, key.as_str(), modes.working)? {
            Some(_lock) => self.on_this_machine(asset, &key),
            None => Ok(None),
        }
    }

    /// What an earlier transfer has left whole, or another image has.
    fn on_this_machine(&self, asset: &Asset, key: &Key) -> Result<Option<Publication>, ImageError> {
        let on_hash = |size| self.emit(asset, &Event::Verifying { size });
        if let Some(held) = cache::parked(self.store, key, asset.digest, self.cancel, on_hash)? {
            self.emit(asset, &Event::Fetched { size: held.verified.size, received: 0 });
            return Ok(Some(Publication::Waiting(held)));
        }
        if let Some(digest) = asset.digest
            && let Some((image, held)) = cache::find_shared(self.store, key, digest, self.cancel)?
        {
            self.emit(asset, &Event::Shared { image, size: held.verified.size });
            return Ok(Some(Publication::Waiting(held)));
        }
        Ok(None)
    }

    /// Asks the source whether it has something else than what was recorded; `None` if not.
    pub(crate) fn refresh(
        &self,
        asset: &Asset,
        known: &Validators,
    ) -> Result<Option<Held>, ImageError> {
        let key = Key::of(asset);
        let _lock = self.lock(asset, &key)?;
        // What waits there was fetched before anybody asked for a fresh one.
        cache::discard_parked(self.store, &key);
        self.fetch(asset, &key, Some(known))
    }

    fn lock(&self, asset: &Asset, key: &Key) -> Result<cache::Lock, ImageError> {
        let Store { locks, modes, .. } = self.store;
        cache::acquire(locks, key.as_str(), modes.working, self.cancel, |holder| {
            say_who_is_waited_for(self.source.name(), asset.kind, holder, self.options);
        })
    }

    fn fetch(
        &self,
        asset: &Asset,
        key: &Key,
        unless: Option<&Validators>,
    ) -> Result<Option<Held>, ImageError> {
        let mut no_cache = false;
        let mut received_before = 0;
        let sync = self.manager.write_back.syncs(asset);
        loop {
            let mut partial = Partial::claim(self.store, key, self.cancel)?;
            let transfer = Transfer {
                client: &self.manager.client,
                asset,
                policy: &self.manager.retry_policy,
                max_size: self.manager.max_asset_size,
                space: self.space,
                options: self.options,
                cancel: self.cancel,
                unless,
                no_cache,
                connections: self.manager.connections,
                spare: self.spare,
                write_out: sync,
            };
            let (digest, received, doubtful) = match transfer.run(&mut partial) {
                Ok(Outcome::Whole { digest, received, doubtful }) => (digest, received, doubtful),
                Ok(Outcome::Unchanged) => {
                    partial.discard();
                    return Ok(None);
                }
                Err(stop) => return Err(self.stopped(asset, partial, stop)),
            };
            if let Some(expected) = asset.digest.filter(|&pin| pin != digest) {
                let error = self.mismatch(asset, &partial, expected, digest);
                partial.discard();
                if !doubtful || no_cache {
                    return Err(error);
                }
                // The bytes of an earlier run may be damaged, a cache on the way out of date.
                log::info!("{error}");
                no_cache = true;
                received_before += received;
                continue;
            }
            let size = partial.length();
            let held = partial.park(digest, sync)?;
            self.spare.give(self.manager.connections);
            self.emit(asset, &Event::Fetched { size, received: received_before + received });
            return Ok(Some(held));
        }
    }

    /// What a transfer that ended means for the caller. Bytes that can be of use are kept.
    fn stopped(&self, asset: &Asset, partial: Partial<'_>, stop: Stop) -> ImageError {
        let image = self.source.name().to_string();
        let (kind, url) = (asset.kind, Box::new(asset.url.clone()));
        let (error, useful) = match stop {
            Stop::Image(error) => (error, true),
            Stop::NotAnImage(content) => {
                (ImageError::NotAnImage { image, kind, url, content }, false)
            }
            Stop::Failed { attempts, error } => match (error, asset.digest) {
                (TransferError::NotWhole { digest, .. }, Some(expected)) => {
                    (self.mismatch(asset, &partial, expected, digest), false)
                }
                (source, _) => {
                    let useful = !matches!(source, TransferError::TooLarge { .. });
                    (ImageError::Fetch { image, kind, url, attempts, source }, useful)
                }
            },
        };
        if !useful || !transfer::is_of_use(&partial, asset) {
            partial.discard();
        }
        error
    }

    fn mismatch(
        &self,
        asset: &Asset,
        partial: &Partial<'_>,
        expected: Digest,
        actual: Digest,
    ) -> ImageError {
        ImageError::Mismatch {
            image: self.source.name().to_string(),
            kind: asset.kind,
            url: Box::new(asset.url.clone()),
            expected,
            actual,
            content: sniff::not_an_image(&partial.head()),
        }
    }

    fn emit(&self, asset: &Asset, event: &Event) {
        self.options.emit(asset.kind, event);
    }
}

/// Says that another process, or a thread of this one, is fetching an asset.
pub(crate) fn say_who_is_waited_for(
    image: &ImageName,
    kind: AssetKind,
    holder: Option<u32>,
    options: &FetchOptions,
) {
    let who = holder.map_or("another process".to_owned(), |pid| format!("process {pid}"));
    let what = format!("{who}, which is fetching the {kind} of '{image}'");
    log::info!("waiting for {what}");
    options.emit(kind, &Event::Waiting { what });
}

/// The validators that an earlier answer came with.
impl From<&cache::AssetRecord> for Validators {
    fn from(record: &cache::AssetRecord) -> Self {
        Self {
            etag: record.etag.clone(),
            last_modified: record.last_modified.clone(),
            if_range: None,
        }
    }
}
