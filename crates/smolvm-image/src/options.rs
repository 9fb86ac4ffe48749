//! [`FetchOptions`]: what one call may be told beside the name of the image.

use std::fmt;
use std::sync::Arc;

use crate::cancel::CancelToken;
use crate::progress::{AssetKind, Event};

/// A receiver of events, shared by the threads of one fetch.
pub(crate) type Observer = Arc<dyn Fn(AssetKind, &Event) + Send + Sync>;

/// What one call of [`ensure_image_with`](crate::ImageManager::ensure_image_with) may be told.
///
/// ```
/// use smolvm_image::{CancelToken, Event, FetchOptions};
///
/// let cancel = CancelToken::new();
/// let options = FetchOptions::new().cancel(&cancel).on_event(|kind, event| {
///     if let Event::Progress { done, total: Some(total) } = event {
///         eprintln!("{kind}: {done} of {total} bytes");
///     }
/// });
/// # let _ = options;
/// ```
#[derive(Clone, Default)]
pub struct FetchOptions {
    pub(crate) cancel: CancelToken,
    pub(crate) observer: Option<Observer>,
    pub(crate) refresh: bool,
}

impl FetchOptions {
    /// No observer, never cancelled, no refresh.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends the fetch when the token is cancelled.
    #[must_use]
    pub fn cancel(mut self, cancel: &CancelToken) -> Self {
        self.cancel = cancel.clone();
        self
    }

    /// The token that ends the fetch; [`child`](CancelToken::child) makes one that ends with it.
    #[must_use]
    pub fn cancel_token(&self) -> &CancelToken {
        &self.cancel
    }

    /// Calls `observer` at every step, from several threads. It should return quickly: the
    /// transfer waits for it.
    #[must_use]
    pub fn on_event(
        mut self,
        observer: impl Fn(AssetKind, &Event) + Send + Sync + 'static,
    ) -> Self {
        self.observer = Some(Arc::new(observer));
        self
    }

    /// Asks the server whether an asset without a pin has changed, and fetches it if so. Pinned
    /// assets cannot change.
    #[must_use]
    pub fn refresh(mut self, refresh: bool) -> Self {
        self.refresh = refresh;
        self
    }

    pub(crate) fn emit(&self, kind: AssetKind, event: &Event) {
        if let Some(observer) = &self.observer {
            observer(kind, event);
        }
    }
}

impl fmt::Debug for FetchOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FetchOptions")
            .field("cancel", &self.cancel)
            .field("refresh", &self.refresh)
            .finish_non_exhaustive()
    }
}
