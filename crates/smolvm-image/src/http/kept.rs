//! [`Kept`]: connections that go on after an answer, for the next request of whoever keeps them
//! (RFC 9112 section 9.3).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use url::Url;

use super::proxy::Proxy;
use super::stream::Stream;

/// The connections of one caller, who asks for one thing after the other. All of them were made
/// with the same cancel token.
#[derive(Debug, Clone, Default)]
pub(crate) struct Kept(Arc<Mutex<Vec<(Way, Stream)>>>);

/// What two requests must have in common to go over the same connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Way {
    /// Scheme, host and port; what is asked there, and as whom, is in each request.
    server: String,
    proxy: Option<String>,
}

/// Where a connection comes from, and goes when its answer has been read.
#[derive(Debug)]
pub(super) struct Place {
    kept: Kept,
    way: Way,
}

impl Way {
    pub(super) fn to(url: &Url, proxy: Option<&Proxy>) -> Self {
        let server = url.origin().ascii_serialization();
        Self { server, proxy: proxy.map(ToString::to_string) }
    }
}

impl Kept {
    /// Where a connection that goes this way belongs.
    pub(super) fn place(&self, way: Way) -> Place {
        Place { kept: self.clone(), way }
    }

    fn all(&self) -> MutexGuard<'_, Vec<(Way, Stream)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Takes out a connection that was put here.
    pub(super) fn take(&self) -> Option<Stream> {
        let mut all = self.kept.all();
        let at = all.iter().position(|(way, _)| *way == self.way)?;
        Some(all.swap_remove(at).1)
    }

    pub(super) fn put(self, stream: Stream) {
        self.kept.all().push((self.way, stream));
    }
}
