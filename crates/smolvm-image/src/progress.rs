//! What a fetch tells its caller while it runs. No terminal code: that is the caller's.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// Which part of an image an asset is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AssetKind {
    /// The kernel that the guest boots.
    Kernel,
    /// The initial RAM disk, where the image has one.
    Initrd,
    /// The root file system.
    Rootfs,
}

impl AssetKind {
    /// `kernel`, `initrd` or `rootfs`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Initrd => "initrd",
            Self::Rootfs => "rootfs",
        }
    }
}

impl fmt::Display for AssetKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// One step in the life of an asset, as [`FetchOptions::on_event`](crate::FetchOptions::on_event)
/// hears of it. Events of different assets come from different threads.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The bytes in the cache are being hashed.
    Verifying {
        /// Bytes to hash.
        size: u64,
    },
    /// The cached asset is whole and right; nothing was fetched.
    Cached {
        /// Bytes of the asset.
        size: u64,
    },
    /// The cached asset cannot be used and will be fetched again.
    Damaged {
        /// What is wrong with it.
        reason: String,
    },
    /// Another process or thread is fetching the same asset.
    Waiting {
        /// The lock that is waited for.
        what: String,
    },
    /// Another image has the same content; it was linked or copied from there.
    Shared {
        /// The image it came from.
        image: String,
        /// Bytes of the asset.
        size: u64,
    },
    /// Bytes arrive.
    Progress {
        /// Bytes on disk so far, those of earlier runs included.
        done: u64,
        /// Bytes in all, where the server said so.
        total: Option<u64>,
    },
    /// An attempt failed and the transfer will go on after a pause.
    Retrying {
        /// The attempt that failed, from 1.
        attempt: u32,
        /// The pause.
        pause: Duration,
        /// What went wrong.
        reason: String,
    },
    /// The asset was fetched and verified.
    Fetched {
        /// Bytes of the asset.
        size: u64,
        /// Bytes that came over the wire in this run.
        received: u64,
    },
}
