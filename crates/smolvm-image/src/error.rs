//! [`ImageError`]: everything that can go wrong with an image, by what the caller can do about it.

use std::io;
use std::path::{Path, PathBuf};

use crate::asset_url::AssetUrl;
use crate::digest::Digest;
use crate::name::NameError;
use crate::progress::AssetKind;
use crate::report::ImageUser;
use crate::transfer::TransferError;

/// Why an image could not be had. The message names the image, file or URL and says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The name is empty or blank.
    #[error("image name cannot be empty")]
    EmptyName,

    /// The name could not be one component of a path.
    #[error("Invalid image name: {name:?}: {reason}")]
    InvalidName {
        /// The name as given.
        name: String,
        /// What is wrong with it.
        reason: NameError,
    },

    /// The registry has no such image.
    #[error("Unknown image: '{name}'. Available images: {}{}", available.join(", "), did_you_mean(suggestion.as_deref()))]
    UnknownImage {
        /// The name as given.
        name: String,
        /// The names that the registry has, sorted.
        available: Vec<String>,
        /// The one that was most likely meant.
        suggestion: Option<String>,
    },

    /// The bytes are not the ones that the pin asks for. They were thrown away.
    #[error(
        "the {kind} of '{image}' has the wrong SHA-256 digest\n  url:      {url}\n  expected: {expected}\n  actual:   {actual}{}\nNothing was installed. Check the digest in the registry with whoever publishes the image; if it is right, the server or something on the way serves other bytes",
        looks_like(*content)
    )]
    Mismatch {
        /// The image.
        image: String,
        /// Which of its assets.
        kind: AssetKind,
        /// Where the bytes came from.
        url: Box<AssetUrl>,
        /// The pin.
        expected: Digest,
        /// The digest of what arrived.
        actual: Digest,
        /// What arrived, where it is recognised as something else than an image.
        content: Option<&'static str>,
    },

    /// An asset without a pin that cannot be part of an image.
    #[error(
        "what {url} serves as the {kind} of '{image}' is {content}, not an image. Check the URL"
    )]
    NotAnImage {
        /// The image.
        image: String,
        /// Which of its assets.
        kind: AssetKind,
        /// Where it came from.
        url: Box<AssetUrl>,
        /// What it is instead, such as `an HTML page`.
        content: &'static str,
    },

    /// The transfer failed for good.
    #[error("cannot fetch the {kind} of '{image}' from {url}{}: {source}", after_attempts(*attempts))]
    Fetch {
        /// The image.
        image: String,
        /// Which of its assets.
        kind: AssetKind,
        /// Where from.
        url: Box<AssetUrl>,
        /// How often it was tried.
        attempts: u32,
        /// What went wrong last.
        source: TransferError,
    },

    /// Not cached, and the manager may not use the network.
    #[error(
        "'{image}' is not in the cache ({}) and the network is off (offline mode). Fetch it once without offline mode, or put the files under {}",
        list(missing),
        directory.display()
    )]
    Offline {
        /// The image.
        image: String,
        /// What is missing or damaged.
        missing: Vec<AssetKind>,
        /// Where its files belong.
        directory: PathBuf,
    },

    /// Not cached, where only the cache was asked.
    #[error("'{image}' is not in the cache. Fetch it first: smolvm image pull {image}")]
    NotCached {
        /// The image.
        image: String,
    },

    /// The cache has it, but not whole and right, where only the cache was asked.
    #[error(
        "the {kind} of '{image}' in the cache cannot be used: {reason}. Fetch it again: smolvm image pull {image}"
    )]
    Damaged {
        /// The image.
        image: String,
        /// Which of its assets.
        kind: AssetKind,
        /// What is wrong with it.
        reason: String,
    },

    /// The disk has no room for what is to come.
    #[error(
        "not enough room on the disk: {} needs {needed} bytes more, {available} are free. Free some (smolvm image prune), or use another cache directory",
        path.display()
    )]
    DiskFull {
        /// Where the bytes were to go.
        path: PathBuf,
        /// The bytes still needed; 1 where nobody knows how many.
        needed: u64,
        /// The bytes that the file system has left.
        available: u64,
    },

    /// A file or directory of the cache could not be used.
    #[error("cannot {action} {}: {source}{}", path.display(), remedy(source))]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was to be done with it.
        action: &'static str,
        /// Why not.
        source: io::Error,
    },

    /// A symbolic link where the cache has none; it is never followed.
    #[error(
        "{} is a symbolic link or no directory; the cache does not follow links. Remove it and try again",
        path.display()
    )]
    Link {
        /// The link.
        path: PathBuf,
    },

    /// The cache was written by a later version of this program.
    #[error(
        "the cache {} has layout {found}, this version knows layout {known} and changes nothing there. Upgrade smolvm, or use another cache directory",
        path.display()
    )]
    NewerLayout {
        /// The cache directory.
        path: PathBuf,
        /// Its layout.
        found: String,
        /// The layout of this version.
        known: u32,
    },

    /// The home directory, which the path is relative to, is not known.
    #[error("cannot tell the home directory in {path:?}. Give an absolute path")]
    Home {
        /// The path as given.
        path: PathBuf,
    },

    /// Somebody uses the image.
    #[error(
        "'{image}' is in use{}. End that first, or remove it all the same: smolvm image rm --force {image}",
        by(users)
    )]
    InUse {
        /// The image.
        image: String,
        /// Who uses it, as far as this user may know.
        users: Vec<ImageUser>,
    },

    /// Others changed the same image over and over while it was fetched.
    #[error("'{image}' was changed by others each time it had been fetched. Try again")]
    Contended {
        /// The image.
        image: String,
    },

    /// The caller's [`CancelToken`](crate::CancelToken) was cancelled.
    #[error("cancelled; what has arrived is kept, and the next fetch continues from there")]
    Cancelled,
}

/// The classes of [`ImageError`], for callers that react to the class alone: the exit codes of
/// the `smolvm` command are made of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The caller asked for something malformed.
    Usage,
    /// There is no image of that name.
    UnknownImage,
    /// The bytes are not what they should be.
    Verification,
    /// The network or a server failed, or the network is off.
    Network,
    /// The disk, permissions, or the state of the cache.
    Cache,
    /// The caller ended it.
    Cancelled,
}

impl ImageError {
    /// The class of the error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::EmptyName | Self::InvalidName { .. } | Self::Home { .. } => ErrorKind::Usage,
            Self::UnknownImage { .. } => ErrorKind::UnknownImage,
            Self::Mismatch { .. } | Self::NotAnImage { .. } | Self::Damaged { .. } => {
                ErrorKind::Verification
            }
            Self::Fetch { source, .. } if source.is_local() => ErrorKind::Cache,
            Self::Fetch { .. } | Self::Offline { .. } => ErrorKind::Network,
            Self::NotCached { .. }
            | Self::DiskFull { .. }
            | Self::Io { .. }
            | Self::Link { .. }
            | Self::NewerLayout { .. }
            | Self::InUse { .. }
            | Self::Contended { .. } => ErrorKind::Cache,
            Self::Cancelled => ErrorKind::Cancelled,
        }
    }

    pub(crate) fn io(path: &Path, action: &'static str, source: impl Into<io::Error>) -> Self {
        Self::Io { path: path.to_owned(), action, source: source.into() }
    }
}

fn did_you_mean(suggestion: Option<&str>) -> String {
    suggestion.map(|name| format!(". Did you mean '{name}'?")).unwrap_or_default()
}

fn looks_like(content: Option<&str>) -> String {
    content.map(|content| format!("\n  content:  {content}")).unwrap_or_default()
}

fn after_attempts(attempts: u32) -> String {
    if attempts > 1 { format!(" after {attempts} attempts") } else { String::new() }
}

fn by(users: &[ImageUser]) -> String {
    let users: Vec<_> = users.iter().map(ToString::to_string).collect();
    if users.is_empty() { String::new() } else { format!(" by {}", users.join(", ")) }
}

fn list(kinds: &[AssetKind]) -> String {
    let labels: Vec<_> = kinds.iter().map(|kind| kind.label()).collect();
    format!("missing: {}", labels.join(", "))
}

fn remedy(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => {
            ". Check who owns it, or use another cache directory (--cache-dir)"
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            ". The cache is read-only: it serves what it has, fetch into another one"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            ". The disk is full: free some room (smolvm image prune), or use another cache directory"
        }
        io::ErrorKind::InvalidFilename => ". Use a shorter path for the cache directory",
        io::ErrorKind::NotADirectory | io::ErrorKind::NotFound => {
            ". Check each component of the path"
        }
        _ => "",
    }
}
