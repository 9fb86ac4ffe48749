//! [`HttpError`]: why a request has no answer, and whether asking again may help.
//!
//! What a message names of a URL is printed by [`Redacted`], so none has a secret in it.

use std::io;
use std::time::Duration;

use url::Url;

use super::chunked::ChunkError;
use super::dial::DialError;
use super::head::HeadError;
use super::proxy::ProxyError;
use super::redirect::RedirectError;
use super::tls::TlsError;
use super::wire::Interruption;
use crate::asset_url::Redacted;

/// Why a request has no answer, or an answer no whole body.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    /// The cancel token ended it.
    #[error("cancelled")]
    Cancelled,
    /// Something that cannot be asked for: no host, or another scheme than http and https.
    #[error("{url}: only URLs with a host and the scheme http or https can be fetched")]
    Unsupported { url: String },
    /// A header to send that would break out of its line.
    #[error("the value of the header {name} has a control character in it")]
    HeaderValue { name: String },
    /// No connection to the server or proxy.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// No byte for the stall time, or a head or TLS handshake that takes longer than that.
    #[error("{url}: no data for {} s", after.as_secs_f32())]
    Stalled { url: String, after: Duration },
    /// The connection failed after it was made.
    #[error("{url}: the connection broke")]
    Broken { url: String, source: io::Error },
    /// The body ended before it was complete.
    #[error("{url}: the connection was closed after {received} bytes of {}", Announced(*.expected))]
    ClosedEarly { url: String, received: u64, expected: Option<u64> },
    /// The head of the response cannot be read.
    #[error("{url}: the server's answer cannot be read")]
    Head { url: String, source: HeadError },
    /// The framing of a chunked body is broken.
    #[error("{url}: the body is damaged")]
    Chunk { url: String, source: ChunkError },
    /// No secure connection.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A redirect that is not followed.
    #[error(transparent)]
    Redirect(#[from] RedirectError),
    /// The proxy cannot be used, or refuses.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
}

impl HttpError {
    /// Whether the same request may succeed later, with nothing changed on this side.
    pub(crate) fn is_retryable(&self) -> bool {
        match self {
            Self::Dial(error) => error.is_retryable(),
            Self::Head { source, .. } => source.is_retryable(),
            Self::Proxy(error) => error.is_retryable(),
            Self::Stalled { .. }
            | Self::Broken { .. }
            | Self::ClosedEarly { .. }
            | Self::Chunk { .. } => true,
            Self::Cancelled
            | Self::Unsupported { .. }
            | Self::HeaderValue { .. }
            | Self::Tls(_)
            | Self::Redirect(_) => false,
        }
    }

    /// Whether it has to do with this machine and not with the network.
    pub(crate) fn is_local(&self) -> bool {
        matches!(self, Self::Tls(error) if error.is_local())
    }

    /// What an error of the connection means for the request of `url`.
    pub(super) fn from_io(url: &Url, error: io::Error) -> Self {
        let shown = Redacted(url).to_string();
        match error.downcast::<Interruption>() {
            Ok(Interruption::Cancelled) => Self::Cancelled,
            Ok(Interruption::Stalled(after)) => Self::Stalled { url: shown, after },
            Err(source) => Self::Broken { url: shown, source },
        }
    }

    /// What is wrong with the head of the answer to the request of `url`.
    pub(super) fn from_head(url: &Url, source: HeadError) -> Self {
        Self::Head { url: Redacted(url).to_string(), source }
    }
}

/// The size that a message compares with.
struct Announced(Option<u64>);

impl std::fmt::Display for Announced {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(bytes) => write!(f, "{bytes}"),
            None => f.write_str("a body whose end was not reached"),
        }
    }
}
