//! The calls of [`crate::ImageManager`] for callers who live in tokio: each runs on tokio's pool
//! of blocking threads, and ends when its future is dropped.

use std::sync::Arc;

use ::tokio::task;

use crate::{
    CancelToken, FetchOptions, ImageError, ImageReport, ImageSource, LocalImage, PruneOptions,
    Pruned, Removed,
};

/// An image manager to await.
///
/// Dropping the future of a call cancels it: the transfer ends within a quarter of a second, what
/// has arrived is kept, and the next call continues from there. So `tokio::select!` and
/// `tokio::time::timeout` work as for any other future.
///
/// Clones share one manager and cost nothing.
///
/// ```no_run
/// use smolvm::tokio::ImageManager;
///
/// # async fn example() -> Result<(), smolvm::ImageError> {
/// let manager = ImageManager::new()?;
/// let (hello, ubuntu) = tokio::join!(
///     manager.ensure_image("hello"),
///     manager.ensure_image("quickstart-x86_64"),
/// );
/// println!("{}\n{}", hello?.kernel_path.display(), ubuntu?.kernel_path.display());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct ImageManager {
    blocking: Arc<crate::ImageManager>,
}

/// Cancels a call when its future goes away.
struct CancelOnDrop(CancelToken);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl From<crate::ImageManager> for ImageManager {
    fn from(manager: crate::ImageManager) -> Self {
        Self { blocking: Arc::new(manager) }
    }
}

impl ImageManager {
    /// A manager of the default cache and the built-in images, as [`crate::ImageManager::new`]
    /// makes it. For other settings, convert from [`crate::ImageManager`].
    pub fn new() -> Result<Self, ImageError> {
        crate::ImageManager::new().map(Self::from)
    }

    /// The same manager for calls that block: [`list_available`](crate::ImageManager::list_available)
    /// and others that ask no file for anything need no other thread.
    #[must_use]
    pub fn blocking(&self) -> &crate::ImageManager {
        &self.blocking
    }

    /// Awaits [`crate::ImageManager::is_cached`].
    pub async fn is_cached(&self, name: &str) -> bool {
        let name = name.to_owned();
        // A call that tokio never ran, because it shuts down, found nothing.
        self.run(move |manager, _| Ok(manager.is_cached(&name))).await.unwrap_or(false)
    }

    /// Awaits [`crate::ImageManager::ensure_image`].
    pub async fn ensure_image(&self, name: &str) -> Result<LocalImage, ImageError> {
        self.ensure_image_with(name, FetchOptions::new()).await
    }

    /// Awaits [`crate::ImageManager::ensure_image_with`]. It ends when the future is dropped or
    /// the token of `options` is cancelled.
    pub async fn ensure_image_with(
        &self,
        name: &str,
        options: FetchOptions,
    ) -> Result<LocalImage, ImageError> {
        let name = name.to_owned();
        let cancel = options.cancel_token().child();
        self.run_until(cancel, move |manager, cancel| {
            manager.ensure_image_with(&name, &options.cancel(cancel))
        })
        .await
    }

    /// Awaits [`crate::ImageManager::verify`].
    pub async fn verify(&self, name: &str) -> Result<ImageReport, ImageError> {
        let name = name.to_owned();
        self.run(move |manager, cancel| manager.verify(&name, &until(cancel))).await
    }

    /// Awaits [`crate::ImageManager::inspect`].
    pub async fn inspect(&self, name: &str) -> Result<ImageReport, ImageError> {
        let name = name.to_owned();
        self.run(move |manager, _| manager.inspect(&name)).await
    }

    /// Awaits [`crate::ImageManager::locate`].
    pub async fn locate(&self, name: &str) -> Result<LocalImage, ImageError> {
        let name = name.to_owned();
        self.run(move |manager, _| manager.locate(&name)).await
    }

    /// Awaits [`crate::ImageManager::pin`].
    pub async fn pin(&self, name: &str) -> Result<ImageSource, ImageError> {
        let name = name.to_owned();
        self.run(move |manager, cancel| manager.pin(&name, &until(cancel))).await
    }

    /// Awaits [`crate::ImageManager::remove`].
    pub async fn remove(&self, name: &str) -> Result<Removed, ImageError> {
        let name = name.to_owned();
        self.run(move |manager, cancel| manager.remove(&name, &until(cancel))).await
    }

    /// Awaits [`crate::ImageManager::prune`].
    pub async fn prune(&self, dry_run: bool) -> Result<Pruned, ImageError> {
        self.run(move |manager, cancel| manager.prune(dry_run, &until(cancel))).await
    }

    /// Awaits [`crate::ImageManager::prune_with`].
    pub async fn prune_with(&self, options: PruneOptions) -> Result<Pruned, ImageError> {
        self.run(move |manager, cancel| manager.prune_with(&options, &until(cancel))).await
    }

    /// Awaits [`crate::ImageManager::force_remove`].
    pub async fn force_remove(&self, name: &str) -> Result<Removed, ImageError> {
        let name = name.to_owned();
        self.run(move |manager, cancel| manager.force_remove(&name, &until(cancel))).await
    }

    /// Awaits [`crate::ImageManager::cached_names`].
    pub async fn cached_names(&self) -> Result<Vec<String>, ImageError> {
        self.run(|manager, _| manager.cached_names()).await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&crate::ImageManager, &CancelToken) -> Result<T, ImageError> + Send + 'static,
    ) -> Result<T, ImageError> {
        self.run_until(CancelToken::new(), work).await
    }

    /// Runs `work` on a blocking thread, and cancels the token when this future goes.
    async fn run_until<T: Send + 'static>(
        &self,
        cancel: CancelToken,
        work: impl FnOnce(&crate::ImageManager, &CancelToken) -> Result<T, ImageError> + Send + 'static,
    ) -> Result<T, ImageError> {
        let manager = Arc::clone(&self.blocking);
        let running = task::spawn_blocking({
            let cancel = cancel.clone();
            move || work(&manager, &cancel)
        });
        let _cancel_on_drop = CancelOnDrop(cancel);
        match running.await {
            Ok(result) => result,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime shuts down and never ran it.
                Err(_) => Err(ImageError::Cancelled),
            },
        }
    }
}

/// Options with nothing but a token.
fn until(cancel: &CancelToken) -> FetchOptions {
    FetchOptions::new().cancel(cancel)
}
