//! [`Key`]: what the locks and partial files of an asset are named after.

use crate::digest::Digest;
use crate::image::Asset;

/// What an asset's locks and partial files are named after: the digest where there is a pin, so
/// that all images and addresses of the same content share one transfer, else the URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key(String);

impl Key {
    pub(crate) fn of(asset: &Asset) -> Self {
        match asset.digest {
            Some(digest) => Self(format!("sha256-{digest}")),
            None => Self(format!("url-{}", asset.url.fingerprint())),
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn note_name(&self) -> String {
        format!("{}.json", self.0)
    }

    /// The name of the lock that all share who wait with the file under this key.
    pub(super) fn waiting_name(&self) -> String {
        format!("{}.waiting", self.0)
    }

    /// The name of a link that is renamed to the final name at once.
    pub(super) fn link_name(&self) -> String {
        format!("{}.link", self.0)
    }

    /// The key that a name in the directory of partial files begins with.
    pub(super) fn of_file(name: &str) -> Option<Self> {
        let key = name.split('.').next().unwrap_or(name);
        let hex = key.strip_prefix("sha256-").or_else(|| key.strip_prefix("url-"))?;
        hex.parse::<Digest>().ok().map(|_| Self(key.to_owned()))
    }
}
