//! [`GuestPath`]: where something is in a guest; and the name that a copy of it gets.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use smolvm_protocol::EntryPath;

use crate::session::error::SessionError;

/// A path in a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GuestPath(PathBuf);

impl GuestPath {
    /// Checks a path, as far as the host can.
    pub(super) fn new(path: &Path) -> Result<Self, SessionError> {
        let bytes = path.as_os_str().as_bytes();
        let reason = if bytes.is_empty() {
            "it is empty"
        } else if bytes.contains(&0) {
            "it has a NUL byte"
        } else if bytes.len() > EntryPath::MAX {
            "it is longer than a path can be"
        } else {
            return Ok(Self(path.to_owned()));
        };
        Err(SessionError::InvalidGuestPath { path: path.to_owned(), reason })
    }

    /// What is called `name` in it.
    pub(super) fn join(&self, name: &OsStr) -> Result<Self, SessionError> {
        Self::new(&self.0.join(name))
    }

    /// Whether only a directory can be meant.
    pub(super) fn is_meant_as_directory(&self) -> bool {
        own_name(&self.0).is_none() || self.bytes().ends_with(b"/")
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        self.0.as_os_str().as_bytes().to_vec()
    }
}

impl fmt::Display for GuestPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(formatter)
    }
}

/// The name that a path gives to what is there; none where it ends in `.` or `..` or is the root.
pub(super) fn own_name(path: &Path) -> Option<&OsStr> {
    let bytes = path.as_os_str().as_bytes();
    let name = bytes.split(|&byte| byte == b'/').rfind(|name| !name.is_empty())?;
    (!matches!(name, b"." | b"..")).then(|| OsStr::from_bytes(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_a_name_or_stands_for_contents() {
        let name = |path| own_name(Path::new(path)).map(|name| name.to_str().unwrap());
        assert_eq!(name("/a/b"), Some("b"));
        assert_eq!(name("b//"), Some("b"));
        for path in ["/", "", ".", "/a/.", "/a/./", "a/.."] {
            assert_eq!(name(path), None, "{path:?}");
        }
    }

    #[test]
    fn only_what_can_be_a_path_is_sent() {
        assert!(GuestPath::new(Path::new("/a b/ü")).is_ok());
        for path in ["", "/a\0b"] {
            assert!(GuestPath::new(Path::new(path)).is_err(), "{path:?}");
        }
        assert!(GuestPath::new(&Path::new("/").join("a/".repeat(3000))).is_err());
    }
}
