//! [`Scene`]: a cache of the test's own, and an image whose kernel is what the test serves.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use smolvm_image::{
    AssetKind, CancelToken, Event, FetchOptions, ImageError, ImageManager, ImageManagerBuilder,
    ImageSource, Registry, RetryPolicy, TransferError,
};
use smolvm_testkit::content::sha256_hex;

use crate::bytes::Bytes;

/// The name of the image.
pub(crate) const IMAGE: &str = "tested";

/// A root file system that is in the cache from the beginning, so that the kernel alone is
/// fetched.
const ROOTFS: &[u8] = b"a root file system that was put there by hand";

/// A cache directory that ends with the value.
pub(crate) struct Scene {
    cache: PathBuf,
    events: Arc<Mutex<Vec<Event>>>,
    /// What the directory ends with.
    temp: Option<tempfile::TempDir>,
}

impl Scene {
    /// An empty cache on the usual file system.
    pub(crate) fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let mut scene = Self::on(temp.path());
        scene.temp = Some(temp);
        scene
    }

    /// A cache in a directory that somebody else removes.
    pub(crate) fn on(directory: &Path) -> Self {
        let cache = directory.join("cache");
        let image = cache.join(IMAGE);
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&image).unwrap();
        fs_err::write(image.join("rootfs.ext4"), ROOTFS).unwrap();
        Self { cache, events: Arc::default(), temp: None }
    }

    /// The image with its kernel at this URL.
    pub(crate) fn source(url: &str, pin: Option<&str>) -> ImageSource {
        ImageSource::builder(IMAGE)
            .kernel(url, pin)
            .rootfs("http://127.0.0.1:9/never-asked", Some(&sha256_hex(ROOTFS)))
            .build()
            .unwrap()
    }

    /// A manager that knows the image, in which pauses are short.
    pub(crate) fn builder(&self, url: &str, pin: Option<&str>) -> ImageManagerBuilder {
        ImageManager::builder()
            .cache_dir(&self.cache)
            .registry(Registry::from_iter([Self::source(url, pin)]))
            .retry_policy(quick())
    }

    /// Ensures the image with a new manager, as a new process would; gives back its kernel.
    pub(crate) fn fetch(&self, url: &str, pin: Option<&str>) -> Result<Bytes, ImageError> {
        self.ensure(&self.builder(url, pin).build().unwrap())
    }

    /// Ensures the image; gives back its kernel, which is at the documented place.
    pub(crate) fn ensure(&self, manager: &ImageManager) -> Result<Bytes, ImageError> {
        self.ensure_with(manager, &self.options())
    }

    /// As [`ensure`](Self::ensure), with options that were made of [`options`](Self::options).
    pub(crate) fn ensure_with(
        &self,
        manager: &ImageManager,
        options: &FetchOptions,
    ) -> Result<Bytes, ImageError> {
        let image = manager.ensure_image_with(IMAGE, options)?;
        assert_eq!(image.kernel_path, self.kernel_path());
        Ok(fs_err::read(image.kernel_path).unwrap().into())
    }

    /// Fetches until a condition on an event of the kernel holds, then cancels.
    pub(crate) fn cancel_when(
        &self,
        manager: &ImageManager,
        when: impl Fn(&Event) -> bool + Send + Sync + 'static,
    ) {
        let cancel = CancelToken::new();
        let (events, token) = (Arc::clone(&self.events), cancel.clone());
        let options = FetchOptions::new().cancel(&cancel).on_event(move |kind, event| {
            if kind == AssetKind::Kernel {
                events.lock().unwrap().push(event.clone());
                if when(event) {
                    token.cancel();
                }
            }
        });
        let result = manager.ensure_image_with(IMAGE, &options);
        assert!(matches!(result, Err(ImageError::Cancelled)), "{result:?}");
    }

    /// Fetches until some bytes of the kernel are in the cache, then cancels.
    pub(crate) fn cancel_in_the_middle(&self, manager: &ImageManager) {
        let cancel = CancelToken::new();
        let options = self.options().cancel(&cancel);
        thread::scope(|scope| {
            let running = scope.spawn(|| self.ensure_with(manager, &options));
            self.wait_for_bytes(|| running.is_finished());
            cancel.cancel();
            let result = running.join().unwrap();
            assert!(matches!(result, Err(ImageError::Cancelled)), "{result:?}");
        });
    }

    /// Waits until a transfer by others has brought some bytes.
    pub(crate) fn wait_for_bytes(&self, mut has_ended: impl FnMut() -> bool) {
        while self.partial_length().is_none_or(|length| length == 0) {
            assert!(!has_ended(), "the transfer has ended already");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Options that note the events of the kernel.
    pub(crate) fn options(&self) -> FetchOptions {
        let events = Arc::clone(&self.events);
        FetchOptions::new().on_event(move |kind, event| {
            if kind == AssetKind::Kernel {
                events.lock().unwrap().push(event.clone());
            }
        })
    }

    /// Takes the events of the kernel that were noted so far.
    pub(crate) fn events(&self) -> Vec<Event> {
        std::mem::take(&mut self.events.lock().unwrap())
    }

    /// The cache directory.
    pub(crate) fn cache(&self) -> &Path {
        &self.cache
    }

    /// The documented place of the kernel.
    pub(crate) fn kernel_path(&self) -> PathBuf {
        self.cache.join(IMAGE).join("vmlinux.bin")
    }

    /// What is under the kernel's final name, if anything is.
    pub(crate) fn kernel(&self) -> Option<Bytes> {
        fs_err::read(self.kernel_path()).ok().map(Bytes::from)
    }

    /// The files that transfers have left, with their sizes.
    pub(crate) fn leavings(&self) -> Vec<(String, u64)> {
        let Ok(entries) = std::fs::read_dir(self.partials()) else {
            return Vec::new();
        };
        let leaving = |entry: std::io::Result<std::fs::DirEntry>| {
            let entry = entry.ok()?;
            // A running transfer may remove it in between.
            Some((entry.file_name().into_string().ok()?, entry.metadata().ok()?.len()))
        };
        entries.filter_map(leaving).collect()
    }

    /// The file with the bytes so far of a transfer that was broken off.
    pub(crate) fn partial(&self) -> Option<PathBuf> {
        let mut paths = self.leavings().into_iter().map(|(name, _)| self.partials().join(name));
        paths.find(|path| path.extension().is_some_and(|extension| extension == "part"))
    }

    /// The bytes so far of a transfer that was broken off.
    pub(crate) fn partial_length(&self) -> Option<u64> {
        Some(self.partial()?.metadata().ok()?.len())
    }

    fn partials(&self) -> PathBuf {
        self.cache.join(".state/partial")
    }

    /// Fails unless nothing is under the final name and nothing waits to be reused.
    pub(crate) fn assert_nothing_is_left(&self) {
        assert_eq!(self.kernel(), None);
        assert_eq!(self.leavings(), []);
    }
}

/// The default number of attempts, with pauses that a test does not notice.
pub(crate) fn quick() -> RetryPolicy {
    let mut policy = RetryPolicy::default();
    policy.first_pause = Duration::from_millis(1);
    policy.longest_pause = Duration::from_millis(4);
    policy.longest_retry_after = Duration::from_millis(4);
    policy
}

/// How often it was tried and what went wrong last.
pub(crate) fn failure(result: Result<Bytes, ImageError>) -> (u32, TransferError) {
    match result {
        Err(ImageError::Fetch { attempts, source, .. }) => (attempts, source),
        Err(error) => panic!("not a failed fetch: {error}"),
        Ok(bytes) => panic!("{} bytes, not a failed fetch", bytes.len()),
    }
}

/// The pauses among some events.
pub(crate) fn pauses(events: &[Event]) -> Vec<Duration> {
    let pause = |event: &Event| match event {
        Event::Retrying { pause, .. } => Some(*pause),
        _ => None,
    };
    events.iter().filter_map(pause).collect()
}

/// The bytes that came over the wire in the run that ended well.
pub(crate) fn received(events: &[Event]) -> Option<u64> {
    events.iter().find_map(|event| match event {
        Event::Fetched { received, .. } => Some(*received),
        _ => None,
    })
}
