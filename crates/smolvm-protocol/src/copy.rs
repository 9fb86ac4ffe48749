//! Files on their way into the guest or out of it: an [`Entry`] for each, its content as data
//! after it.

use alloc::vec::Vec;
use core::fmt;

use crate::error::ProtocolError;
use crate::wire::{Reader, Write as _};

/// One file, directory or symbolic link. The content of a file follows as data on the same
/// channel, until the next entry or the end of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it is, below what is copied.
    pub path: EntryPath,
    /// What it is.
    pub kind: EntryKind,
    /// Its permission bits, at most `0o7777`.
    pub mode: u32,
    /// When it was last changed, in seconds since 1970.
    pub modified: u64,
}

/// What an [`Entry`] is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A file that had this size in bytes when it was looked at. Its data is what counts.
    File(u64),
    /// A directory; what is in it comes after it.
    Directory,
    /// A symbolic link to this path, which is copied as it is and never followed.
    Symlink(Vec<u8>),
}

/// A path below what is copied, that cannot lead out of it: components separated by `/`, none of
/// them empty, `.` or `..`. The empty path is what is copied itself.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryPath(Vec<u8>);

impl EntryPath {
    /// The longest path, in bytes: `PATH_MAX` of Linux.
    pub const MAX: usize = 4096;
    /// The longest component, in bytes: `NAME_MAX` of Linux.
    pub const MAX_COMPONENT: usize = 255;

    /// What is copied itself.
    #[must_use]
    pub fn root() -> Self {
        Self(Vec::new())
    }

    /// Checks a path.
    pub fn parse(path: &[u8]) -> Result<Self, ProtocolError> {
        if path.is_empty() {
            return Ok(Self::root());
        }
        let is_name = |name: &[u8]| {
            !matches!(name, b"" | b"." | b"..")
                && name.len() <= Self::MAX_COMPONENT
                && !name.contains(&0)
        };
        if path.len() > Self::MAX || !path.split(|&byte| byte == b'/').all(is_name) {
            return Err(ProtocolError::Malformed("a file's path leads out of what is copied"));
        }
        Ok(Self(path.to_vec()))
    }

    /// The components, from the outermost in.
    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|&byte| byte == b'/').filter(|name| !name.is_empty())
    }

    /// The whole path.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for EntryPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "\"{}\"", self.0.escape_ascii())
    }
}

impl Entry {
    pub(crate) fn write(&self, wire: &mut Vec<u8>) {
        wire.bytes(&self.path.0);
        wire.u32(self.mode);
        wire.u64(self.modified);
        match &self.kind {
            EntryKind::File(size) => {
                wire.u8(0);
                wire.u64(*size);
            }
            EntryKind::Directory => wire.u8(1),
            EntryKind::Symlink(target) => {
                wire.u8(2);
                wire.bytes(target);
            }
        }
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, ProtocolError> {
        let path = EntryPath::parse(&reader.bytes()?)?;
        let mode = reader.u32()?;
        if mode > 0o7777 {
            return Err(ProtocolError::Malformed("a mode is more than permission bits"));
        }
        let modified = reader.u64()?;
        let kind = match reader.u8()? {
            0 => EntryKind::File(reader.u64()?),
            1 => EntryKind::Directory,
            2 => EntryKind::Symlink(link_target(reader.bytes()?)?),
            _ => return Err(ProtocolError::Malformed("neither file nor directory nor link")),
        };
        Ok(Self { path, kind, mode, modified })
    }
}

fn link_target(target: Vec<u8>) -> Result<Vec<u8>, ProtocolError> {
    if target.is_empty() || target.len() > EntryPath::MAX || target.contains(&0) {
        return Err(ProtocolError::Malformed("a link's target cannot be a path"));
    }
    Ok(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_leads_out() {
        for path in ["..", "../x", "a/../../x", "/etc/passwd", "a//b", "a/", "./a", "a\0b"] {
            assert!(EntryPath::parse(path.as_bytes()).is_err(), "{path:?}");
        }
        assert!(EntryPath::parse(&[b'a'; 256]).is_err());
        assert!(EntryPath::parse("a/".repeat(3000).trim_end_matches('/').as_bytes()).is_err());
    }

    #[test]
    fn a_path_has_its_components() {
        let path = EntryPath::parse(b"a/..b/c d").unwrap();
        assert_eq!(path.components().collect::<Vec<_>>(), [&b"a"[..], b"..b", b"c d"]);
        assert_eq!(EntryPath::parse(b"").unwrap().components().count(), 0);
    }
}
