//! [`ImageManager`]: turns the name of an image into files on disk that are whole and right.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cache::{self, Presence, Record, Store};
use crate::ensure;
use crate::error::ImageError;
use crate::http::{Client, ClientConfig};
use crate::image::{Asset, ImageSource, LocalImage};
use crate::name::ImageName;
use crate::options::FetchOptions;
use crate::progress::Event;
use crate::registry::{BUILTIN_IMAGES, Registry};
use crate::report::{AssetReport, AssetStatus, ImageReport, Pruned, Removed};
use crate::side_by_side::side_by_side;
use crate::transfer::RetryPolicy;

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
    cache_dir: PathBuf,
    registry: Registry,
    offline: bool,
    sync: bool,
    max_asset_size: u64,
    retry_policy: RetryPolicy,
    client: Client,
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
        let record = Record::read(&dir);
        source.assets().all(|asset| {
            let recorded = record.as_ref().and_then(|record| record.asset(asset.kind));
            matches!(cache::presence(&dir, asset, recorded), Presence::Present(_))
        })
    }

    /// Makes an image be in the cache, whole and right, and says where it lies.
    ///
    /// What is there is hashed, every byte of it; an image that passes is returned without any
    /// network traffic. What is missing or damaged is fetched, that alone.
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
        ensure::ensure(self, source, options)?;
        Ok(self.local_image(source))
    }

    /// Where an image lies, without verifying it.
    ///
    /// # Errors
    /// [`ImageError::NotCached`] where [`is_cached`](Self::is_cached) says no.
    pub fn locate(&self, name: &str) -> Result<LocalImage, ImageError> {
        let source = self.source(name)?;
        if self.has_all(source) {
            Ok(self.local_image(source))
        } else {
            Err(ImageError::NotCached { image: name.to_owned() })
        }
    }

    /// Hashes what the cache has of an image, and changes and fetches nothing. Damage is in the
    /// report, not an error.
    ///
    /// # Errors
    /// A name that is none or unknown, or [`ImageError::Cancelled`].
    pub fn verify(&self, name: &str, options: &FetchOptions) -> Result<ImageReport, ImageError> {
        let source = self.source(name)?;
        let dir = cache::open_image(&self.cache_dir, source.name())?;
        let record = dir.as_ref().and_then(Record::read);
        let assets = side_by_side(source.assets().collect(), &options.cancel, |asset, cancel| {
            let mut report = self.report_of(source.name(), asset, record.as_ref());
            if let Some(dir) = &dir {
                let recorded = record.as_ref().and_then(|record| record.asset(asset.kind));
                let on_hash = |size| options.emit(asset.kind, &Event::Verifying { size });
                report.set_finding(cache::check(dir, asset, recorded, cancel, on_hash)?);
            }
            Ok(report)
        })?;
        self.report(source.name(), Some(source), assets)
    }

    /// What is known of an image, by its record and its files' sizes. Hashes nothing. Works for
    /// images in the cache that the registry does not name, too.
    ///
    /// # Errors
    /// A name that is none, or that neither the registry nor the cache knows.
    pub fn inspect(&self, name: &str) -> Result<ImageReport, ImageError> {
        let (name, source) = self.known(name)?;
        let dir = cache::open_image(&self.cache_dir, &name)?;
        let record = dir.as_ref().and_then(Record::read);
        let assets = match (source, &record) {
            (Some(source), _) => source
                .assets()
                .map(|asset| {
                    let mut report = self.report_of(&name, asset, record.as_ref());
                    if let Some(dir) = &dir {
                        let recorded = record.as_ref().and_then(|record| record.asset(asset.kind));
                        report.set_presence(cache::presence(dir, asset, recorded));
                    }
                    report
                })
                .collect(),
            (None, Some(record)) => AssetReport::of_record(record, &self.image_dir(&name)),
            (None, None) => Vec::new(),
        };
        self.report(&name, source, assets)
    }

    /// The names of the images that the cache has a directory of, sorted, whether the registry
    /// names them or not.
    ///
    /// # Errors
    /// Where the cache directory cannot be read.
    pub fn cached_names(&self) -> Result<Vec<String>, ImageError> {
        match cache::open_root(&self.cache_dir)? {
            Some(root) => {
                Ok(cache::image_names(&root)?.into_iter().map(|name| name.to_string()).collect())
            }
            None => Ok(Vec::new()),
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
    /// A name that neither the registry nor the cache knows, or a cache that cannot be written to.
    pub fn remove(&self, name: &str, options: &FetchOptions) -> Result<Removed, ImageError> {
        let (name, _) = self.known(name)?;
        match cache::open_root(&self.cache_dir)? {
            Some(_) => cache::remove(&Store::create(&self.cache_dir)?, &name, &options.cancel),
            None => Ok(Removed { existed: false, freed_bytes: 0 }),
        }
    }

    /// Removes partial files, leavings, and images that the registry does not name; with
    /// `dry_run` only says what would go. What another process is at work on stays.
    ///
    /// # Errors
    /// A cache that cannot be read, or not be written to.
    pub fn prune(&self, dry_run: bool) -> Result<Pruned, ImageError> {
        match cache::open_root(&self.cache_dir)? {
            Some(_) => {
                let store = Store::create(&self.cache_dir)?;
                cache::prune(&store, |name| self.registry.get(name).is_some(), dry_run)
            }
            None => Ok(Pruned::default()),
        }
    }

    /// The definition of an image, or the documented errors.
    fn source(&self, name: &str) -> Result<&ImageSource, ImageError> {
        let parsed = parse_name(name)?;
        self.registry.get(&parsed).ok_or_else(|| self.unknown(name))
    }

    /// A name that the registry or the cache knows.
    fn known(&self, name: &str) -> Result<(ImageName, Option<&ImageSource>), ImageError> {
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

    fn image_dir(&self, name: &ImageName) -> PathBuf {
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

    fn report_of(&self, name: &ImageName, asset: &Asset, record: Option<&Record>) -> AssetReport {
        let recorded = record
            .and_then(|record| record.asset(asset.kind))
            .filter(|recorded| recorded.is_of(asset));
        AssetReport {
            kind: asset.kind,
            path: self.image_dir(name).join(asset.file_name.as_str()),
            url: recorded.map(|recorded| recorded.url.clone()),
            pin: asset.digest,
            digest: recorded.map(|recorded| recorded.sha256),
            size: recorded.map(|recorded| recorded.size),
            fetched_at: recorded.map(|recorded| recorded.fetched_at.clone()),
            status: AssetStatus::Missing,
        }
    }

    fn report(
        &self,
        name: &ImageName,
        source: Option<&ImageSource>,
        assets: Vec<AssetReport>,
    ) -> Result<ImageReport, ImageError> {
        let disk_bytes = match cache::open_image(&self.cache_dir, name)? {
            Some(dir) => cache::disk_usage(&dir)?,
            None => 0,
        };
        Ok(ImageReport {
            name: name.clone(),
            source: source.cloned(),
            directory: self.image_dir(name),
            cached: !assets.is_empty() && assets.iter().all(|asset| asset.status.is_good()),
            disk_bytes,
            assets,
        })
    }

    pub(crate) fn offline(&self) -> bool {
        self.offline
    }

    pub(crate) fn sync(&self) -> bool {
        self.sync
    }

    pub(crate) fn max_asset_size(&self) -> u64 {
        self.max_asset_size
    }

    pub(crate) fn retry_policy(&self) -> &RetryPolicy {
        &self.retry_policy
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }
}

fn parse_name(name: &str) -> Result<ImageName, ImageError> {
    if name.trim().is_empty() {
        return Err(ImageError::EmptyName);
    }
    name.parse().map_err(|reason| ImageError::InvalidName { name: name.to_owned(), reason })
}

/// Collects the settings of an [`ImageManager`].
///
/// ```
/// use smolvm_image::{ImageManager, Registry};
///
/// let manager = ImageManager::builder()
///     .cache_dir("/var/cache/smolvm")
///     .registry(Registry::new())
///     .offline(true)
///     .build()?;
/// assert!(manager.list_available().is_empty());
/// # Ok::<(), smolvm_image::ImageError>(())
/// ```
#[derive(Debug, Clone, Default)]
#[must_use = "call build() to get the ImageManager"]
pub struct ImageManagerBuilder {
    cache_dir: Option<PathBuf>,
    registry: Option<Registry>,
    offline: bool,
    sync: bool,
    max_asset_size: Option<u64>,
    retry_policy: RetryPolicy,
    stall_timeout: Option<Duration>,
    ca_file: Option<PathBuf>,
}

impl ImageManagerBuilder {
    /// Where images are cached, instead of `~/.smolvm/images`. `~` and `~user` at its beginning
    /// are expanded; a blank path means the default.
    pub fn cache_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.cache_dir = Some(path.into());
        self
    }

    /// The images to know, instead of [`BUILTIN_IMAGES`].
    pub fn registry(mut self, registry: Registry) -> Self {
        self.registry = Some(registry);
        self
    }

    /// Never uses the network: what is not cached is an error.
    pub fn offline(mut self, offline: bool) -> Self {
        self.offline = offline;
        self
    }

    /// Waits until what was fetched is on the disk (`fsync(2)`). What has a pin is right without
    /// it: a file that a power loss has damaged is found and fetched again.
    pub fn sync(mut self, sync: bool) -> Self {
        self.sync = sync;
        self
    }

    /// No asset may be larger, in bytes. Default: 64 GiB.
    pub fn max_asset_size(mut self, bytes: u64) -> Self {
        self.max_asset_size = Some(bytes);
        self
    }

    /// How often a transfer is tried, instead of the default policy.
    pub fn retry_policy(mut self, policy: RetryPolicy) -> Self {
        self.retry_policy = policy;
        self
    }

    /// How often a transfer that does not get on is tried, 5 by default.
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.retry_policy.attempts = attempts.max(1);
        self
    }

    /// How long a connection may bring nothing, 30 s by default. No limit on the whole.
    pub fn stall_timeout(mut self, timeout: Duration) -> Self {
        self.stall_timeout = Some(timeout);
        self
    }

    /// A PEM file with certificates to trust beside the system's, instead of the one that
    /// `$SMOLVM_CA_FILE` names.
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.ca_file = Some(path.into());
        self
    }

    /// Makes the manager. Proxies and credentials are those of the environment.
    ///
    /// # Errors
    /// [`ImageError::Home`] where the cache directory is relative to a home that is not known.
    pub fn build(self) -> Result<ImageManager, ImageError> {
        let mut client = ClientConfig::from_env();
        if let Some(stall) = self.stall_timeout {
            client.stall = stall;
        }
        client.extra_ca_file = self.ca_file.or(client.extra_ca_file);
        Ok(ImageManager {
            cache_dir: cache::resolve(self.cache_dir.as_deref())?,
            registry: self.registry.unwrap_or_else(|| BUILTIN_IMAGES.clone()),
            offline: self.offline,
            sync: self.sync,
            max_asset_size: self.max_asset_size.unwrap_or(64 << 30),
            retry_policy: self.retry_policy,
            client: Client::new(client),
        })
    }
}
