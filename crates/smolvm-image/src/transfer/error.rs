//! [`TransferError`]: why bytes did not come.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use crate::asset_url::AssetUrl;
use crate::digest::Digest;
use crate::http::HttpError;

/// Why a transfer failed, as the cause in [`ImageError::Fetch`](crate::ImageError::Fetch).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// No connection, or one that broke. The message has the whole chain of causes.
    #[error("{message}")]
    Connection {
        /// What happened.
        message: String,
        /// The cause.
        source: Box<dyn Error + Send + Sync>,
    },
    /// No connection for a reason on this machine, such as a file of certificates.
    #[error("{message}")]
    Local {
        /// What is wrong.
        message: String,
        /// The cause.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The server refuses, with this HTTP status (RFC 9110 section 15).
    #[error("the server answers {}", status_text(*.0))]
    Status(u16),
    /// The server compressed what was asked for as it is, in a way that we cannot undo.
    #[error("the server sends it with the content encoding {0:?}, though none was asked for")]
    Encoding(String),
    /// The body ended before the announced size.
    #[error("only {received} of {total} bytes came")]
    Short {
        /// Bytes that came.
        received: u64,
        /// Bytes announced.
        total: u64,
    },
    /// The body ended, no size was announced, and what came is not what the pin asks for.
    #[error("{received} bytes came, no size was announced, and their digest is {digest}")]
    NotWhole {
        /// Bytes that came.
        received: u64,
        /// The digest of them.
        digest: Digest,
    },
    /// The body has no announced end, so that a whole file and a broken connection look alike.
    #[error(
        "the server does not say how large it is, so that nobody can tell whether it is whole. Add its SHA-256 digest to the registry"
    )]
    NoLength,
    /// The server sent another part than the one that was asked for.
    #[error("the server sent another part than the one that was asked for")]
    WrongPart,
    /// There is more than the manager may take.
    #[error(
        "it is larger than the limit of {limit} bytes. Raise the limit (--max-size) if that is right"
    )]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// The body could not be read or decoded.
    #[error("the body is damaged: {0}")]
    Body(io::Error),
    /// A file could not be read.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file was changed while it was read.
    #[error("{} was changed while it was read", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
}

impl TransferError {
    pub(crate) fn connection(url: &AssetUrl, error: HttpError) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let text = error.to_string();
            if !message.contains(&text) {
                message = format!("{message}: {text}");
            }
            cause = error.source();
        }
        // Errors of another host of a redirect keep their URL, the asset's own is told already.
        let message = match message.strip_prefix(&format!("{url}: ")) {
            Some(rest) => rest.to_owned(),
            None => message,
        };
        if error.is_local() {
            return Self::Local { message, source: Box::new(error) };
        }
        Self::Connection { message, source: Box::new(error) }
    }

    /// Whether it has to do with this machine and not with the network.
    pub(crate) fn is_local(&self) -> bool {
        matches!(
            self,
            Self::Local { .. } | Self::File { .. } | Self::Changed { .. } | Self::TooLarge { .. }
        )
    }
}

fn status_text(status: u16) -> String {
    let (reason, remedy) = match status {
        401 => ("Unauthorized", "give credentials in ~/.netrc or $SMOLVM_BEARER_TOKENS"),
        403 => ("Forbidden", "check the URL and the credentials"),
        404 => ("Not Found", "check the URL in the registry"),
        407 => ("Proxy Authentication Required", "put the user and password into the proxy's URL"),
        408 => ("Request Timeout", "try again later"),
        410 => ("Gone", "the image was withdrawn"),
        425 => ("Too Early", "try again later"),
        429 => ("Too Many Requests", "try again later"),
        451 => ("Unavailable For Legal Reasons", ""),
        500 => ("Internal Server Error", "try again later"),
        502 => ("Bad Gateway", "try again later"),
        503 => ("Service Unavailable", "try again later"),
        504 => ("Gateway Timeout", "try again later"),
        _ => ("", ""),
    };
    let space = if reason.is_empty() { "" } else { " " };
    let colon = if remedy.is_empty() { "" } else { ": " };
    format!("{status}{space}{reason}{colon}{remedy}")
}
