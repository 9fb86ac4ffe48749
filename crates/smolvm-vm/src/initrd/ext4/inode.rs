//! What the file system notes about a file (`inodes.rst`).

use super::Ext4Error;
use crate::kernel::Fields;

/// A file, directory or symlink.
#[derive(Debug, Clone)]
pub(super) struct Inode {
    pub(super) kind: Kind,
    /// The size of its content in bytes.
    pub(super) size: u64,
    flags: u32,
    /// The root of the tree of its blocks, or the target of a short symlink.
    pub(super) root: [u8; ROOT],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    File,
    Symlink,
    /// A device, pipe or socket.
    Other,
}

/// The size of the field that the blocks are found by.
const ROOT: usize = 60;

const ENCRYPTED: u32 = 0x800;
const HAS_EXTENTS: u32 = 0x8_0000;
const INLINE_DATA: u32 = 0x1000_0000;

impl Inode {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Ext4Error> {
        Self::from_fields(Fields(bytes)).ok_or(Ext4Error::Damaged { what: "a short inode" })
    }

    fn from_fields(fields: Fields<'_>) -> Option<Self> {
        let kind = match fields.u16(0)? & 0o170_000 {
            0o040_000 => Kind::Directory,
            0o100_000 => Kind::File,
            0o120_000 => Kind::Symlink,
            _ => Kind::Other,
        };
        Some(Self {
            kind,
            size: u64::from(fields.u32(0x6c)?) << 32 | u64::from(fields.u32(0x4)?),
            flags: fields.u32(0x20)?,
            root: *fields.bytes(0x28)?,
        })
    }

    /// Whether `root` is the root of a tree of extents, and not a map of blocks.
    pub(super) fn has_extents(&self) -> bool {
        self.flags & HAS_EXTENTS != 0
    }

    /// The target of a symlink that is short enough to stand in the inode itself.
    pub(super) fn short_target(&self) -> Option<&[u8]> {
        let length = usize::try_from(self.size).ok().filter(|length| *length < ROOT)?;
        self.root.get(..length)
    }

    /// Looks whether the content lies in blocks, and in the clear.
    pub(super) fn check_is_plain(&self) -> Result<(), Ext4Error> {
        if self.flags & ENCRYPTED != 0 {
            return Err(Ext4Error::Unsupported { feature: "encrypted files" });
        }
        if self.flags & INLINE_DATA != 0 {
            return Err(Ext4Error::Unsupported { feature: "inline data" });
        }
        Ok(())
    }
}
