//! [`ImageManagerBuilder`]: the settings of a manager.

use std::path::PathBuf;
use std::time::Duration;

use crate::cache;
use crate::error::ImageError;
use crate::http::{Client, ClientConfig};
use crate::manager::ImageManager;
use crate::registry::Registry;
use crate::transfer::RetryPolicy;
use crate::unchanged::KnownStamps;
use crate::verify_policy::VerifyPolicy;
use crate::write_back::WriteBack;

/// Longer is never, and a clock cannot count to any number of seconds.
const LONGEST_STALL: Duration = Duration::from_hours(24 * 365);

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
    write_back: WriteBack,
    verify: VerifyPolicy,
    max_asset_size: Option<u64>,
    retry_policy: RetryPolicy,
    connections: Option<u8>,
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

    /// The images to know, instead of [`BUILTIN_IMAGES`](crate::BUILTIN_IMAGES).
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
        self.write_back.sync = sync;
        self
    }

    /// Whether what was fetched is synced in another thread a second after the result was returned,
    /// so that a power loss costs no second fetch, and what [`VerifyPolicy::Changed`] notes of it
    /// holds in the boots to come. Default: yes. A process that ends within that second ends at
    /// once; one that ends during the sync waits for it, as processes do.
    pub fn sync_later(mut self, later: bool) -> Self {
        self.write_back.later = later;
        self
    }

    /// Whether files in the cache get [fs-verity] where their file system has it (ext4 with the
    /// feature `verity`, Btrfs, f2fs). Default: no; files that have it are known as such all the
    /// same. Such a file can be read, renamed, linked and removed, but nobody can change it any
    /// more, root included, and the kernel refuses to read what the disk has damaged of it. That is
    /// also all that [`VerifyPolicy::Changed`] has to know, whatever has happened to times, and in
    /// whatever boot.
    ///
    /// It takes a pass over the files and a 127th of their size, and is done with the later sync
    /// ([`sync_later`](Self::sync_later)); where there is none, before the result is returned. On
    /// other file systems nothing is done; what fails is logged, and the image is there all the
    /// same.
    ///
    /// [fs-verity]: https://docs.kernel.org/filesystems/fsverity.html
    pub fn fs_verity(mut self, enable: bool) -> Self {
        self.write_back.fs_verity = enable;
        self
    }

    /// When a cached file is hashed before it is used, instead of always.
    pub fn verify(mut self, policy: VerifyPolicy) -> Self {
        self.verify = policy;
        self
    }

    /// No asset may be larger, in bytes. Default: 64 GiB.
    pub fn max_asset_size(mut self, bytes: u64) -> Self {
        self.max_asset_size = Some(bytes);
        self
    }

    /// At most this many connections for each file, 8 by default, 1 for one alone. There is one
    /// unless it turns out to be slower than everything else, and the server lets parts of the
    /// file be asked for. A file that is still on its way when another one of its image has come
    /// may use that one's connections, too, if they help.
    pub fn connections(mut self, most: u8) -> Self {
        self.connections = Some(most.max(1));
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

    /// How long a connection may bring nothing, 30 s by default, a year at most. No limit on the
    /// whole.
    pub fn stall_timeout(mut self, timeout: Duration) -> Self {
        self.stall_timeout = Some(timeout.min(LONGEST_STALL));
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
            registry: self.registry.unwrap_or_else(Registry::builtin),
            offline: self.offline,
            write_back: self.write_back,
            verify: self.verify,
            stamps: KnownStamps::default(),
            max_asset_size: self.max_asset_size.unwrap_or(64 << 30),
            retry_policy: self.retry_policy,
            connections: self.connections.unwrap_or(8),
            client: Client::new(client),
        })
    }
}
