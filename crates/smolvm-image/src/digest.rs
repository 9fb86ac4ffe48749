//! [`Digest`]: a SHA-256 digest, parsed once and compared as bytes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

/// A SHA-256 digest (FIPS 180-4).
///
/// It is read from 64 hexadecimal digits in either case, with an optional `sha256:` before them
/// and white space around them, and written in lower case.
///
/// ```
/// use smolvm_image::Digest;
///
/// let digest: Digest = " SHA256:E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855\n"
///     .parse()?;
/// assert_eq!(digest, Digest::of(b""));
/// assert_eq!(digest.to_string().len(), 64);
/// # Ok::<(), smolvm_image::DigestError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// Why a text is no SHA-256 digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DigestError {
    /// Nothing but white space.
    #[error("the SHA-256 digest is blank: leave it out where there is none to check against")]
    Blank,
    /// Another number of digits than 64.
    #[error("a SHA-256 digest has 64 hexadecimal digits, this one has {0}")]
    Length(usize),
    /// A character that is no hexadecimal digit.
    #[error("{0:?} is not a hexadecimal digit")]
    Character(char),
}

impl Digest {
    /// The digest of some bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The 32 bytes of the digest.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for Digest {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl From<Sha256> for Digest {
    fn from(hasher: Sha256) -> Self {
        Self(hasher.finalize().into())
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let text = text.trim();
        let hex = match text.get(..7) {
            Some(prefix) if prefix.eq_ignore_ascii_case("sha256:") => &text[7..],
            _ => text,
        };
        if hex.is_empty() {
            return Err(DigestError::Blank);
        }
        let mut digits = Vec::with_capacity(64);
        for character in hex.chars() {
            let digit = character.to_digit(16).ok_or(DigestError::Character(character))?;
            // A hexadecimal digit is below 16.
            digits.push(u8::try_from(digit).unwrap_or(0));
        }
        if digits.len() != 64 {
            return Err(DigestError::Length(digits.len()));
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = pair[0] << 4 | pair[1];
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Behaviour 1: any spelling of the same 32 bytes is the same digest.
        #[test]
        fn every_spelling_reads_back(bytes: [u8; 32], upper: bool, prefix in "(|sha256:|SHA256:)", space in "[ \t\r\n]{0,3}") {
            let digest = Digest(bytes);
            let mut hex = digest.to_string();
            if upper {
                hex = hex.to_uppercase();
            }
            prop_assert_eq!(format!("{space}{prefix}{hex}{space}").parse(), Ok(digest));
        }

        /// Behaviour 2: no other length is read, and no text makes the parser panic.
        #[test]
        fn other_lengths_are_refused(hex in "[0-9a-fA-F]{1,63}|[0-9a-fA-F]{65,80}") {
            prop_assert_eq!(hex.parse::<Digest>(), Err(DigestError::Length(hex.len())));
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = text.parse::<Digest>();
        }
    }

    /// Behaviour 2: a blank digest is malformed, not absent.
    #[test]
    fn blank_is_malformed() {
        for blank in ["", "   ", "\n", "sha256:"] {
            assert_eq!(blank.parse::<Digest>(), Err(DigestError::Blank), "{blank:?}");
        }
    }

    /// Behaviour 2: a wrong alphabet is refused.
    #[test]
    fn other_alphabets_are_refused() {
        let wrong = format!("{}g", "0".repeat(63));
        assert_eq!(wrong.parse::<Digest>(), Err(DigestError::Character('g')));
        assert_eq!("md5:00".parse::<Digest>(), Err(DigestError::Character('m')));
    }

    #[test]
    fn digest_of_known_bytes() {
        assert_eq!(
            Digest::of(b"abc").to_string(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
