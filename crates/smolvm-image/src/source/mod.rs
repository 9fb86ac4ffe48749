//! Sources: where the bytes of an asset come from. A source answers one question, "give me this
//! from that byte on"; the transfer does the rest, alike for all of them.

mod content_range;
mod encoding;
mod file;
mod http;
mod retry_after;

use std::io::Read;
use std::time::Duration;

use crate::asset_url::AssetUrl;
use crate::cancel::CancelToken;
use crate::http::{Client, Kept};
use crate::transfer::TransferError;

/// What a transfer asks for.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ask<'a> {
    /// The first byte that is wanted.
    pub(crate) offset: u64,
    /// The byte after the last one that is wanted; the end of the file if `None`.
    pub(crate) end: Option<u64>,
    /// The validator that the bytes before `offset` are of; the answer begins at 0 if the source
    /// has changed since.
    pub(crate) if_range: Option<&'a str>,
    /// The size of the whole that the bytes before `offset` are of.
    pub(crate) total: Option<u64>,
    /// Answer [`Answer::Unchanged`] if the source still has these.
    pub(crate) unless: Option<&'a Validators>,
    /// Ask caches on the way to ask the server.
    pub(crate) no_cache: bool,
    /// Connections to use again, and to keep for the next question.
    pub(crate) kept: Option<&'a Kept>,
}

/// What tells one version of a source from another (RFC 9110 section 8.8).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Validators {
    pub(crate) etag: Option<String>,
    pub(crate) last_modified: Option<String>,
    /// The one that is strong enough to put two parts together by.
    pub(crate) if_range: Option<String>,
}

/// What a source says.
#[derive(Debug)]
pub(crate) enum Answer {
    /// Bytes, from `offset` on or from the beginning.
    Body(Opened),
    /// There is nothing after `offset`: what the caller has is the whole.
    Complete,
    /// What the caller has is up to date.
    Unchanged,
    /// What was sent cannot follow what the caller has; ask again from the beginning.
    StartOver,
}

/// Bytes to come.
pub(crate) struct Opened {
    /// Whether they follow the bytes before the offset that was asked for; else they begin at 0.
    pub(crate) continues: bool,
    /// The size of the whole, in bytes, where it is known.
    pub(crate) total: Option<u64>,
    /// Whether an end of the body without an error means that it is whole, though no size is
    /// known.
    pub(crate) ends_surely: bool,
    pub(crate) parts: Parts,
    /// Whether they may come from a cache on the way, not from the server.
    pub(crate) from_cache: bool,
    pub(crate) validators: Validators,
    /// The bytes. Errors of the source are in the errors of reading.
    pub(crate) body: Box<dyn Read + Send>,
}

/// Whether parts of a source can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parts {
    Offered,
    Unknown,
}

/// Why a source did not answer, and whether asking again may help.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: TransferError,
    pub(crate) retry: Retry,
}

/// What to do after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Retry {
    Never,
    /// After a pause of the caller's choice.
    Yes,
    /// After at least this long.
    After(Duration),
}

/// Asks the source that a URL names.
pub(crate) fn open(
    client: &Client,
    url: &AssetUrl,
    ask: &Ask<'_>,
    cancel: &CancelToken,
) -> Result<Answer, Failure> {
    match url.to_file_path() {
        Some(path) => file::open(&path, ask),
        None => http::open(client, url, ask, cancel),
    }
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened")
            .field("continues", &self.continues)
            .field("total", &self.total)
            .finish_non_exhaustive()
    }
}
