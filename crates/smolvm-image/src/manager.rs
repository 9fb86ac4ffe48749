//! [`ImageManager`]: turns the name of an image into files on disk that are whole and right.

use std::path::{Path, PathBuf};

use crate::builder::ImageManagerBuilder;
use crate::cache::{self, Memory, Presence, Registered, Store};
use crate::ensure::{self, Usage};
use crate::error::ImageError;
use crate::http::Client;
use crate::image::{Asset, ImageSource, LocalImage};
use crate::name::ImageName;
use crate::open_image::OpenImage;
use crate::options::FetchOptions;
use crate::prune_options::PruneOptions;
use crate::registry::Registry;
use crate::report::{AssetStatus, Pruned, Removed};
use crate::transfer::RetryPolicy;
use crate::unchanged::KnownStamps;
use crate::verify_policy::VerifyPolicy;
use crate::write_back::WriteBack;

/// Fetches, caches and validates images.
///
/// Any number of managers, threads and processes may share a cache directory: each asset is
/// transferred once, and nobody ever sees one that is not whole and right.
///
/// ```no_run
/// use smolvm_image::ImageManager;
///
/// let manager = ImageManager::new()?;
/// for name in manager.list_available() {
///     println!("{name}: {}", if manager.is_cached(&name) { "cached" } else { "to fetch" });
/// }
/// let image = manager.ensure_image("hello")?;
/// println!("{} {}", image.kernel_path.display(), image.rootfs_path.display());
/// # Ok::<(), smolvm_image::ImageError>(())
/// ```
#[derive(Debug)]
pub struct ImageManager {
    pub(crate) cache_dir: PathBuf,
    pub(crate) registry: Registry,
    pub(crate) offline: bool,
    pub(crate) write_back: WriteBack,
    pub(crate) verify: VerifyPolicy,
    pub(crate) stamps: KnownStamps,
    pub(crate) max_asset_size: u64,
    pub(crate) retry_policy: RetryPolicy,
    pub(crate) connections: u8,
    pub(crate) client: Client,
}

impl ImageManager {
    /// A manager with the built-in images and the cache in `~/.smolvm/images`. Nothing is made or
    /// read before it is needed.
    ///
    /// # Errors
    /// [`ImageError::Home`] where the home directory is not known.
    pub fn new() -> Result<Self, ImageError> {
        Self::builder().build()
    }

    /// A manager with other settings than the usual ones.
    pub fn builder() -> ImageManagerBuilder {
        ImageManagerBuilder::default()
    }

    /// The directory of the cache, absolute. It may not exist yet.
    #[must_use]
    pub fn cache_dir(&self) -> &Path {
        &self.cache_dir
    }

    /// The images that this manager knows.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The names of all images in the registry, sorted. Touches neither disk nor network.
    #[must_use]
    pub fn list_available(&self) -> Vec<String> {
        self.registry.names()
    }

    /// Whether every asset of an image is in the cache, with the recorded size. Hashes nothing,
    /// makes nothing, and never fails: what cannot be looked at is not cached.
    #[must_use]
    pub fn is_cached(&self, name: &str) -> bool {
        self.registry.get(name).is_some_and(|source| self.has_all(source))
    }

    fn has_all(&self, source: &ImageSource) -> bool {
        let Ok(Some(dir)) = cache::open_image(&self.cache_dir, source.name()) else {
            return false;
        };
        let memory = Memory::read(&dir);
        source.assets().all(|asset| {
            let presence = cache::presence(&dir, asset, memory.of(asset.kind));
            matches!(presence, Presence::Present(_))
        })
    }

    /// Makes an image be in the cache, whole and right, and says where it lies.
    ///
    /// What is there is hashed, every byte of it, unless a [`VerifyPolicy`] says otherwise; an
    /// image that passes is returned without any network traffic. Threads that ask at the same
    /// moment share one pass. What is missing or damaged is fetched, that alone.
    ///
    /// # Errors
    /// See [`ImageError`]; its [`kind`](ImageError::kind) tells what class it is of. After an
    /// error what was cached before is untouched.
    pub fn ensure_image(&self, name: &str) -> Result<LocalImage, ImageError> {
        self.ensure_image_with(name, &FetchOptions::default())
    }

    /// As [`ensure_image`](Self::ensure_image), with progress, cancellation or a refresh.
    ///
    /// # Errors
    /// As [`ensure_image`](Self::ensure_image), and [`ImageError::Cancelled`].
    pub fn ensure_image_with(
        &self,
        name: &str,
        options: &FetchOptions,
    ) -> Result<LocalImage, ImageError> {
        let source = self.source(name)?;
        ensure::ensure(self, source, Usage::Cached, options)?;
        Ok(self.local_image(source))
    }

    /// As [`ensure_image_with`](Self::ensure_image_with), and keeps the files open that were
    /// verified: to boot from them is safe whatever happens to the cache meanwhile.
    ///
    /// # Errors
    /// As [`ensure_image_with`](Self::ensure_image_with).
    pub fn open_image(&self, name: &str, options: &FetchOptions) -> Result<OpenImage, ImageError> {
        let source = self.source(name)?;
        let files = ensure::ensure(self, source, Usage::Held, options)?;
        let image = self.local_image(source);
        files.of(image).ok_or_else(|| ImageError::NotCached { image: name.to_owned() })
    }

    /// Where an image lies, without verifying it.
    ///
    /// # Errors
    /// [`ImageError::NotCached`] where [`is_cached`](Self::is_cached) says no.
    pub fn locate(&self, name: &str) -> Result<LocalImage, ImageError> {
        let source = self.source(name)?;
        if self.has_all(source) {
            cache::note_use(&self.cache_dir, source.name());
            Ok(self.local_image(source))
        } else {
            Err(ImageError::NotCached { image: name.to_owned() })
        }
    }

    /// The definition of a cached image with the digests of what the cache has as pins. It is
    /// verified first, so that what is pinned is what was seen when it was fetched.
    ///
    /// # Errors
    /// [`ImageError::NotCached`] where an asset is missing, [`ImageError::Damaged`] where one is
    /// not what it should be.
    pub fn pin(&self, name: &str, options: &FetchOptions) -> Result<ImageSource, ImageError> {
        let report = self.verify(name, options)?;
        for asset in &report.assets {
            let image = name.to_owned();
            match &asset.status {
                status if status.is_good() => {}
                AssetStatus::Damaged { reason } => {
                    let (kind, reason) = (asset.kind, reason.clone());
                    return Err(ImageError::Damaged { image, kind, reason });
                }
                _ => return Err(ImageError::NotCached { image }),
            }
        }
        let digest_of = |kind| {
            report.assets.iter().find(|asset| asset.kind == kind).and_then(|asset| asset.digest)
        };
        Ok(self.source(name)?.clone().pinned(digest_of))
    }

    /// Removes an image from the cache; the registry keeps it. Content that another image shares
    /// stays with that one.
    ///
    /// # Errors
    /// [`ImageError::InUse`] where somebody uses it; a name that neither the registry nor the cache
    /// knows, or a cache that cannot be written to.
    pub fn remove(&self, name: &str, options: &FetchOptions) -> Result<Removed, ImageError> {
        self.remove_image(name, false, options)
    }

    /// As [`remove`](Self::remove), also where somebody uses the image. Who has its files open
    /// keeps them; a virtual machine that does not run and needs them cannot be started any more.
    ///
    /// # Errors
    /// As [`remove`](Self::remove), but not [`ImageError::InUse`].
    pub fn force_remove(&self, name: &str, options: &FetchOptions) -> Result<Removed, ImageError> {
        self.remove_image(name, true, options)
    }

    fn remove_image(
        &self,
        name: &str,
        force: bool,
        options: &FetchOptions,
    ) -> Result<Removed, ImageError> {
        let (name, _) = self.known(name)?;
        match cache::open_root(&self.cache_dir)? {
            Some(_) => {
                cache::remove(&Store::create(&self.cache_dir)?, &name, force, &options.cancel)
            }
            None => Ok(Removed { existed: false, freed_bytes: 0 }),
        }
    }

    /// Removes partial files, leavings, and images that the registry does not name; with
    /// `dry_run` only says what would go. What somebody uses or is at work on stays.
    ///
    /// # Errors
    /// As [`prune_with`](Self::prune_with).
    pub fn prune(&self, dry_run: bool, options: &FetchOptions) -> Result<Pruned, ImageError> {
        self.prune_with(&PruneOptions::new().dry_run(dry_run), options)
    }

    /// As [`prune`](Self::prune), and images that are old, have no pin, or are too much.
    ///
    /// ```no_run
    /// use smolvm_image::{FetchOptions, ImageManager, PruneOptions};
    ///
    /// let options = PruneOptions::new().max_size(10 << 30).dry_run(true);
    /// let pruned = ImageManager::new()?.prune_with(&options, &FetchOptions::new())?;
    /// println!("{} bytes would go, {} stay", pruned.freed_bytes, pruned.left_bytes);
    /// # Ok::<(), smolvm_image::ImageError>(())
    /// ```
    ///
    /// # Errors
    /// A cache that cannot be read, or not be written to, or [`ImageError::Cancelled`].
    pub fn prune_with(
        &self,
        prune: &PruneOptions,
        options: &FetchOptions,
    ) -> Result<Pruned, ImageError> {
        let Some(store) = Store::open(&self.cache_dir)? else { return Ok(Pruned::default()) };
        let registered = |name: &str| match self.registry.get(name) {
            None => Registered::Not,
            Some(source) if source.assets().all(|asset| asset.digest.is_some()) => {
                Registered::Pinned
            }
            Some(_) => Registered::Unpinned,
        };
        cache::prune(&store, registered, prune, &options.cancel)
    }

    /// The definition of an image, or the documented errors.
    fn source(&self, name: &str) -> Result<&ImageSource, ImageError> {
        let parsed = parse_name(name)?;
        self.registry.get(&parsed).ok_or_else(|| self.unknown(name))
    }

    /// A name that the registry or the cache knows.
    pub(crate) fn known(
        &self,
        name: &str,
    ) -> Result<(ImageName, Option<&ImageSource>), ImageError> {
        let parsed = parse_name(name)?;
        let source = self.registry.get(&parsed);
        let in_cache = || {
            let root = cache::open_root(&self.cache_dir).ok().flatten();
            root.is_some_and(|root| matches!(root.stat(&parsed), Ok(Some(_))))
        };
        if source.is_none() && !in_cache() {
            return Err(self.unknown(name));
        }
        Ok((parsed, source))
    }

    fn unknown(&self, name: &str) -> ImageError {
        ImageError::UnknownImage {
            name: name.to_owned(),
            available: self.registry.names(),
            suggestion: self.registry.nearest(name),
        }
    }

    pub(crate) fn image_dir(&self, name: &ImageName) -> PathBuf {
        self.cache_dir.join(name.as_str())
    }

    fn local_image(&self, source: &ImageSource) -> LocalImage {
        let dir = self.image_dir(source.name());
        let path_of = |asset: &Asset| dir.join(asset.file_name.as_str());
        LocalImage {
            name: source.name().clone(),
            kernel_path: path_of(source.kernel()),
            rootfs_path: path_of(source.rootfs()),
            initrd_path: source.initrd().map(path_of),
            boot_args: source.boot_args().map(str::to_owned),
        }
    }
}

fn parse_name(name: &str) -> Result<ImageName, ImageError> {
    if name.trim().is_empty() {
        return Err(ImageError::EmptyName);
    }
    name.parse().map_err(|reason| ImageError::InvalidName { name: name.to_owned(), reason })
}
