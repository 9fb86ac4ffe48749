//! [`ImageName`] and [`FileName`]: names that are safe as one component of a path.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

/// The longest name, in bytes: leaves room for suffixes within the 255 bytes of a file name.
const MAX_BYTES: usize = 128;

/// Names that Windows gives to devices, whatever their extension.
const DEVICES: [&str; 22] = [
    "con", "prn", "aux", "nul", "com1", "com2", "com3", "com4", "com5", "com6", "com7", "com8",
    "com9", "lpt1", "lpt2", "lpt3", "lpt4", "lpt5", "lpt6", "lpt7", "lpt8", "lpt9",
];

/// The name of an image: one to 128 of `A-Z a-z 0-9 . _ -`, not starting with a dot.
///
/// ```
/// use smolvm_image::{ImageName, NameError};
///
/// let name: ImageName = "quickstart-x86_64".parse()?;
/// assert_eq!(name.as_str(), "quickstart-x86_64");
/// assert_eq!("../etc".parse::<ImageName>(), Err(NameError::LeadingDot));
/// # Ok::<(), NameError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct ImageName(String);

/// The name of an asset's file in the cache, under the same rules as [`ImageName`]; `image.json`
/// is reserved for the record that the cache keeps beside the assets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct FileName(String);

/// Why a text is no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// Nothing but white space.
    #[error("a name cannot be empty")]
    Empty,
    /// More than 128 bytes.
    #[error("a name has at most {MAX_BYTES} bytes, this one has {0}")]
    TooLong(usize),
    /// Hidden files, `.` and `..` are not names.
    #[error("a name does not start with a dot")]
    LeadingDot,
    /// A character outside the alphabet.
    #[error("{0:?} is not allowed: names are made of A-Z a-z 0-9 . _ -")]
    Character(char),
    /// `NUL`, `COM1` and so on.
    #[error("it is a device name on Windows")]
    Device,
    /// `image.json`.
    #[error("image.json is the cache's own file: choose another name")]
    Reserved,
}

/// The rules that both kinds of name share.
fn check(text: &str) -> Result<(), NameError> {
    if text.trim().is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > MAX_BYTES {
        return Err(NameError::TooLong(text.len()));
    }
    if text.starts_with('.') {
        return Err(NameError::LeadingDot);
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if let Some(character) = text.chars().find(|&c| !allowed(c)) {
        return Err(NameError::Character(character));
    }
    let stem = text.split('.').next().unwrap_or(text);
    if DEVICES.iter().any(|device| stem.eq_ignore_ascii_case(device)) {
        return Err(NameError::Device);
    }
    Ok(())
}

impl FromStr for ImageName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        check(text)?;
        Ok(Self(text.to_owned()))
    }
}

impl FromStr for FileName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        check(text)?;
        if text.eq_ignore_ascii_case(crate::cache::RECORD_FILE) {
            return Err(NameError::Reserved);
        }
        Ok(Self(text.to_owned()))
    }
}

macro_rules! text_like {
    ($name:ident) => {
        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Deref for $name {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

text_like!(ImageName);
text_like!(FileName);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Behaviour 37: everything that is not one plain path component is refused.
    #[test]
    fn names_that_are_no_plain_component() {
        for (text, error) in [
            ("", NameError::Empty),
            (" \t", NameError::Empty),
            ("..", NameError::LeadingDot),
            (".hidden", NameError::LeadingDot),
            ("a/b", NameError::Character('/')),
            ("/etc", NameError::Character('/')),
            ("a\\b", NameError::Character('\\')),
            ("a\0", NameError::Character('\0')),
            ("a\x1b[0m", NameError::Character('\x1b')),
            ("hello\n", NameError::Character('\n')),
            ("h\u{e9}llo", NameError::Character('\u{e9}')),
            ("NUL", NameError::Device),
            ("com1.img", NameError::Device),
        ] {
            assert_eq!(text.parse::<ImageName>(), Err(error), "{text:?}");
        }
        let long = "a".repeat(129);
        assert_eq!(long.parse::<ImageName>(), Err(NameError::TooLong(129)));
        assert!("a".repeat(128).parse::<ImageName>().is_ok());
        assert_eq!("Image.JSON".parse::<FileName>(), Err(NameError::Reserved));
    }

    proptest! {
        /// Behaviour 37: what is accepted is one path component, for every text.
        #[test]
        fn accepted_names_are_one_component(text in "\\PC{0,140}|[A-Za-z0-9._-]{1,128}") {
            if let Ok(name) = text.parse::<ImageName>() {
                let components: Vec<_> = std::path::Path::new(name.as_str()).components().collect();
                prop_assert!(matches!(components[..], [std::path::Component::Normal(_)]));
                prop_assert!(!text.starts_with('.'));
            }
        }
    }
}
