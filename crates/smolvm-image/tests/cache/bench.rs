//! [`Bench`]: a server, a cache directory, and images to publish on the one and fetch into the
//! other.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use smolvm_image::{
    AssetKind, Event, FetchOptions, ImageManager, ImageManagerBuilder, ImageSource, Registry,
    RetryPolicy,
};
use smolvm_testkit::{Route, Server, content};
use tempfile::TempDir;

/// The lengths of what is published: no multiple of a page or a buffer, and small.
const KERNEL_BYTES: usize = 70_001;
const ROOTFS_BYTES: usize = 300_007;

/// One test's server and cache directory; both end with it.
pub(crate) struct Bench {
    pub(crate) temp: TempDir,
    pub(crate) server: Server,
}

/// An image that a server has.
#[derive(Clone)]
pub(crate) struct Published {
    pub(crate) name: String,
    pub(crate) kernel: Part,
    pub(crate) rootfs: Part,
}

/// One asset that a server has.
#[derive(Clone)]
pub(crate) struct Part {
    /// The path on the server.
    pub(crate) path: String,
    pub(crate) url: String,
    pub(crate) bytes: Arc<[u8]>,
}

/// Whether the definition of an image has digests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pins {
    With,
    Without,
}

impl Pins {
    pub(crate) const BOTH: [Self; 2] = [Self::With, Self::Without];
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self { temp: tempfile::tempdir().unwrap(), server: Server::start() }
    }

    /// A directory of this test's own.
    pub(crate) fn directory(&self) -> &Path {
        self.temp.path()
    }

    /// The cache directory, which nobody has made yet.
    pub(crate) fn cache(&self) -> PathBuf {
        self.temp.path().join("cache")
    }

    /// A file of an image in the cache.
    pub(crate) fn file(&self, image: &str, file: &str) -> PathBuf {
        self.cache().join(image).join(file)
    }

    /// Serves an image whose content depends on `seed`.
    pub(crate) fn publish(&self, name: &str, seed: u64) -> Published {
        Published {
            name: name.to_owned(),
            kernel: self.part(&format!("/{name}/kernel"), 2 * seed, KERNEL_BYTES),
            rootfs: self.part(&format!("/{name}/rootfs"), 2 * seed + 1, ROOTFS_BYTES),
        }
    }

    /// Serves noise under a path.
    pub(crate) fn part(&self, path: &str, seed: u64, length: usize) -> Part {
        let part = Part {
            path: path.to_owned(),
            url: self.server.url(path),
            bytes: content::noise(seed, length).into(),
        };
        self.server.route(path, part.route());
        part
    }

    /// A manager of the bench's cache that knows these images.
    pub(crate) fn manager(&self, sources: impl IntoIterator<Item = ImageSource>) -> ImageManager {
        manager_of(&self.cache(), sources)
    }
}

/// A manager of any cache directory.
pub(crate) fn manager_of(
    cache: &Path,
    sources: impl IntoIterator<Item = ImageSource>,
) -> ImageManager {
    manager_with(cache, Registry::from_iter(sources))
}

pub(crate) fn manager_with(cache: &Path, registry: Registry) -> ImageManager {
    builder_with(cache, registry).build().unwrap()
}

/// A manager that is still to be built, and does not wait long before it tries again.
pub(crate) fn builder_with(cache: &Path, registry: Registry) -> ImageManagerBuilder {
    let mut policy = RetryPolicy::default();
    policy.first_pause = Duration::from_millis(1);
    ImageManager::builder().cache_dir(cache).registry(registry).retry_policy(policy)
}

impl Part {
    /// Serves the bytes, with an entity tag of them.
    pub(crate) fn route(&self) -> Route {
        Route::new(Arc::clone(&self.bytes)).etag(&format!("\"{}\"", &self.digest()[..16]))
    }

    pub(crate) fn digest(&self) -> String {
        content::sha256_hex(&self.bytes)
    }

    pub(crate) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn pin(&self, pins: Pins) -> Option<String> {
        (pins == Pins::With).then(|| self.digest())
    }
}

impl Published {
    /// The definition of the image.
    pub(crate) fn source(&self, pins: Pins) -> ImageSource {
        ImageSource::builder(&self.name)
            .kernel(&self.kernel.url, self.kernel.pin(pins).as_deref())
            .rootfs(&self.rootfs.url, self.rootfs.pin(pins).as_deref())
            .build()
            .unwrap()
    }

    pub(crate) fn parts(&self) -> [(&'static str, &Part); 2] {
        [("vmlinux.bin", &self.kernel), ("rootfs.ext4", &self.rootfs)]
    }

    /// Fails unless the cache has every byte of the image, in plain files.
    pub(crate) fn assert_in(&self, cache: &Path) {
        for (file, part) in self.parts() {
            let path = cache.join(&self.name).join(file);
            assert!(path.symlink_metadata().unwrap().is_file(), "{} is no file", path.display());
            let bytes = fs_err::read(&path).unwrap();
            assert!(*bytes == *part.bytes, "{} has other bytes", path.display());
        }
    }

    /// Puts the files where the user of the documentation would put them by hand.
    pub(crate) fn place_by_hand(&self, cache: &Path) {
        let directory = cache.join(&self.name);
        fs_err::create_dir_all(&directory).unwrap();
        for (file, part) in self.parts() {
            fs_err::write(directory.join(file), &part.bytes).unwrap();
        }
    }
}

/// Fails if the cache has anything of a transfer left.
pub(crate) fn assert_nothing_left(cache: &Path) {
    let partial = cache.join(".state/partial");
    let left: Vec<_> = fs_err::read_dir(&partial).unwrap().map(|e| e.unwrap().path()).collect();
    assert!(left.is_empty(), "left: {left:?}");
}

/// Waits until a partial file has that many bytes.
pub(crate) fn wait_until_written(cache: &Path, bytes: u64) {
    wait_for_partial(cache, |_, length| length >= bytes);
}

/// Waits until an asset is whole and waits for the rest of its image: its file's name is a key,
/// without a suffix.
pub(crate) fn wait_until_waiting(cache: &Path, part: &Part) {
    wait_for_partial(cache, |name, length| !name.contains('.') && length == part.len());
}

/// Waits until there is such a partial file, by its name and length.
fn wait_for_partial(cache: &Path, expected: impl Fn(&str, u64) -> bool) {
    let is_there = || {
        let files = fs_err::read_dir(cache.join(".state/partial")).unwrap();
        let mut files = files.filter_map(|file| {
            let file = file.ok()?;
            Some((file.file_name().into_string().ok()?, file.metadata().ok()?.len()))
        });
        files.any(|(name, length)| expected(&name, length))
    };
    let end = Instant::now() + Duration::from_mins(1);
    while !is_there() {
        assert!(Instant::now() < end, "the file that is waited for does not come");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Collects the events of a fetch.
#[derive(Clone, Default)]
pub(crate) struct Heard(Arc<Mutex<Vec<(AssetKind, Event)>>>);

impl Heard {
    /// Options that this one hears of.
    pub(crate) fn options(&self) -> FetchOptions {
        let heard = self.clone();
        FetchOptions::new()
            .on_event(move |kind, event| heard.0.lock().unwrap().push((kind, event.clone())))
    }

    /// The assets of the events that a test is interested in.
    pub(crate) fn kinds(&self, interesting: impl Fn(&Event) -> bool) -> Vec<AssetKind> {
        let heard = self.0.lock().unwrap();
        let mut kinds: Vec<_> =
            heard.iter().filter(|(_, event)| interesting(event)).map(|(kind, _)| *kind).collect();
        kinds.sort();
        kinds
    }
}
