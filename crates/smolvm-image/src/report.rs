//! What the manager says of images without fetching anything: reports for people and scripts.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use crate::cache::{Finding, Presence};
use crate::digest::Digest;
use crate::image::ImageSource;
use crate::name::ImageName;
use crate::progress::AssetKind;

/// What [`inspect`](crate::ImageManager::inspect) knows of one image.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImageReport {
    /// The name.
    pub name: ImageName,
    /// Its definition; `None` for an image in the cache that no registry names.
    pub source: Option<ImageSource>,
    /// Its directory in the cache, which may not exist.
    pub directory: PathBuf,
    /// Whether every asset is there with the recorded size. Nothing is hashed.
    pub cached: bool,
    /// The bytes that its directory takes on disk, as `du` counts them.
    pub disk_bytes: u64,
    /// Its assets: kernel, initrd, rootfs.
    pub assets: Vec<AssetReport>,
}

/// One asset of an image, as the cache has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct AssetReport {
    /// Which part of the image it is.
    pub kind: AssetKind,
    /// Where it lies, or would lie.
    pub path: PathBuf,
    /// Where it was fetched from, without secrets; `None` where nothing is recorded.
    pub url: Option<String>,
    /// The pin, where the registry has one.
    pub pin: Option<Digest>,
    /// The digest that was seen when it was fetched or last adopted.
    pub digest: Option<Digest>,
    /// Its size in bytes.
    pub size: Option<u64>,
    /// When it was fetched or adopted (RFC 3339).
    pub fetched_at: Option<String>,
    /// Whether it can be used.
    pub status: AssetStatus,
}

/// The state of an asset in the cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
#[non_exhaustive]
pub enum AssetStatus {
    /// Every byte was hashed and matches the pin.
    Verified,
    /// Every byte was hashed and is what was seen at the first fetch; there is no pin.
    Unpinned,
    /// It is there with the recorded size; nothing was hashed.
    Present,
    /// It is not there.
    Missing,
    /// It is there and cannot be used.
    Damaged {
        /// What is wrong with it.
        reason: String,
    },
}

impl AssetReport {
    /// What hashing has told.
    pub(crate) fn set_finding(&mut self, finding: Finding) {
        self.status = match finding {
            Finding::Good(verified) => {
                self.digest = Some(verified.digest);
                self.size = Some(verified.size);
                if self.pin.is_some() { AssetStatus::Verified } else { AssetStatus::Unpinned }
            }
            Finding::Missing => AssetStatus::Missing,
            Finding::Damaged(reason) => AssetStatus::Damaged { reason },
        };
    }

    /// What a look has told.
    pub(crate) fn set_presence(&mut self, presence: Presence) {
        self.status = match presence {
            Presence::Present(size) => {
                self.size = Some(size);
                AssetStatus::Present
            }
            Presence::Missing => AssetStatus::Missing,
            Presence::Damaged(reason) => AssetStatus::Damaged { reason },
        };
    }
}

impl AssetStatus {
    /// Whether the asset can be used, as far as was looked.
    #[must_use]
    pub fn is_good(&self) -> bool {
        matches!(self, Self::Verified | Self::Unpinned | Self::Present)
    }
}

/// What [`remove`](crate::ImageManager::remove) removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Removed {
    /// Whether there was anything.
    pub existed: bool,
    /// The bytes that the disk got back: content that another image shares is not among them.
    pub freed_bytes: u64,
}

/// What [`prune`](crate::ImageManager::prune) removed, or would remove.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Pruned {
    /// Each thing with its size.
    pub items: Vec<PrunedItem>,
    /// The bytes that the disk gets back in all.
    pub freed_bytes: u64,
    /// The bytes that the cache takes afterwards, as `du` counts them.
    pub left_bytes: u64,
    /// The images that were to go and stay, because somebody uses or fetches them.
    pub in_use: Vec<ImageName>,
}

/// One thing that a prune removes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PrunedItem {
    /// The file or directory.
    pub path: PathBuf,
    /// Why it is not needed.
    pub what: Leaving,
    /// The bytes that the disk gets back.
    pub freed_bytes: u64,
}

/// The things that a cache can do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Leaving {
    /// The bytes of a transfer that was not finished.
    Partial,
    /// A temporary file that nobody uses any more.
    Temporary,
    /// An image that no registry names.
    UnregisteredImage,
    /// An image that nobody has used for the time that was asked for.
    UnusedImage,
    /// An image with an asset that has no pin.
    UnpinnedImage,
    /// The image that nobody has used for longest, where the cache takes more than it may.
    LeastRecentlyUsedImage,
}

/// Who uses an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "what")]
#[non_exhaustive]
pub enum ImageUser {
    /// A process that holds its files.
    Process {
        /// Its number.
        process: u32,
        /// The name of its program.
        program: String,
    },
    /// A directory that needs it as long as it exists, such as that of a virtual machine.
    Directory {
        /// Its path.
        path: PathBuf,
    },
}

impl fmt::Display for ImageUser {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // A program can call itself anything.
            Self::Process { process, program } => {
                write!(formatter, "process {process} ({})", program.escape_default())
            }
            Self::Directory { path } => write!(formatter, "{}", path.display()),
        }
    }
}
