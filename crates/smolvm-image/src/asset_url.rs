//! [`AssetUrl`]: where an asset is published, shown without its secrets.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Deserializer};
use url::Url;

use crate::digest::Digest;

/// The URL of an asset: `http`, `https` or `file`.
///
/// What it prints (and what every error and log line prints) has neither user name, password nor
/// the values of query parameters: signatures of pre-signed URLs are among them.
///
/// ```
/// let url: smolvm_image::AssetUrl = "https://me:secret@example.com/rootfs.ext4?sig=abc".parse()?;
/// assert_eq!(url.to_string(), "https://example.com/rootfs.ext4?sig=***");
/// # Ok::<(), smolvm_image::AssetUrlError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct AssetUrl(Url);

/// Why a text is no URL of an asset.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AssetUrlError {
    /// It does not parse (RFC 3986, WHATWG URL).
    #[error("not a URL: {0}")]
    Malformed(String),
    /// Another scheme than the three.
    #[error("URLs of images are http, https or file, not {0}")]
    Scheme(String),
    /// A `file:` URL that names another host or no absolute path.
    #[error("a file URL has three slashes and an absolute path: file:///path/to/asset")]
    FilePath,
}

impl AssetUrl {
    /// The whole URL, secrets included: for the wire, never for people.
    pub(crate) fn expose(&self) -> &Url {
        &self.0
    }

    /// The whole URL, secrets included: for the definition of an image, never for people.
    #[must_use]
    pub fn expose_secrets(&self) -> &str {
        self.0.as_str()
    }

    /// The path of a `file:` URL; `None` for the others.
    #[must_use]
    pub fn to_file_path(&self) -> Option<PathBuf> {
        (self.0.scheme() == "file").then(|| self.0.to_file_path().ok()).flatten()
    }

    /// What the cache remembers a URL by: its digest, since the URL itself may hold secrets. User
    /// and password are not in it, not even as a digest that guesses could be held against.
    pub(crate) fn fingerprint(&self) -> Digest {
        let mut url = self.0.clone();
        // Both fail only for URLs that cannot have a user name in the first place.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        Digest::of(url.as_str().as_bytes())
    }
}

impl FromStr for AssetUrl {
    type Err = AssetUrlError;

    fn from_str(text: &str) -> Result<Self, AssetUrlError> {
        let mut url =
            Url::parse(text.trim()).map_err(|error| AssetUrlError::Malformed(error.to_string()))?;
        match url.scheme() {
            "http" | "https" => {}
            "file" if url.to_file_path().is_ok() => {}
            "file" => return Err(AssetUrlError::FilePath),
            scheme => return Err(AssetUrlError::Scheme(scheme.to_owned())),
        }
        // A fragment never goes to a server, so it does not make another asset.
        url.set_fragment(None);
        Ok(Self(url))
    }
}

impl fmt::Display for AssetUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Redacted(&self.0).fmt(f)
    }
}

impl fmt::Debug for AssetUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AssetUrl({self})")
    }
}

impl<'de> Deserialize<'de> for AssetUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Prints a URL without user name, password, fragment and the values of its query.
pub(crate) struct Redacted<'a>(pub(crate) &'a Url);

impl fmt::Display for Redacted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut url = self.0.clone();
        // Both fail only for URLs that cannot have a user name in the first place.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        url.set_fragment(None);
        let query = url.query().map(str::to_owned);
        url.set_query(None);
        f.write_str(url.as_str())?;
        let Some(query) = query else { return Ok(()) };
        for (index, pair) in query.split('&').enumerate() {
            f.write_str(if index == 0 { "?" } else { "&" })?;
            match pair.split_once('=') {
                Some((key, _)) => write!(f, "{key}=***")?,
                None => f.write_str("***")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        for (text, shown) in [
            ("http://a:b@h:1/x?k=v&w&t=s#frag", "http://h:1/x?k=***&***&t=***"),
            ("https://token@h/x", "https://h/x"),
            ("file:///var/lib/x", "file:///var/lib/x"),
        ] {
            let url: AssetUrl = text.parse().unwrap();
            assert_eq!(url.to_string(), shown);
            assert!(!format!("{url:?}").contains("frag"));
        }
    }

    /// Behaviour 39: a bad URL is refused with a reason.
    #[test]
    fn other_schemes_and_texts_are_refused() {
        for text in ["", "vmlinux.bin", "ftp://h/x", "data:,x", "http://", "file://host/x", "//h/x"]
        {
            assert!(text.parse::<AssetUrl>().is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text: String) {
            if let Ok(url) = text.parse::<AssetUrl>() {
                let _ = url.to_string();
            }
        }
    }
}
