//! The block that describes the file system, and where the inodes are by it (`super.rst` and
//! `group_descr.rst`).

use std::fs::File;

use super::Ext4Error;
use crate::kernel::{Fields, read_up_to};

/// What of the superblock is needed to find inodes and blocks.
#[derive(Debug)]
pub(super) struct Superblock {
    /// In bytes.
    pub(super) block_size: u64,
    /// In bytes.
    pub(super) inode_size: usize,
    /// The size of a group's descriptor in bytes.
    pub(super) descriptor_size: usize,
    inodes: u32,
    inodes_per_group: u32,
    /// The block that the descriptors of the groups begin with.
    first_descriptor: u64,
}

/// Where the superblock lies, and what is read of it.
const OFFSET: u64 = 1024;
const SIZE: u64 = 1024;
const MAGIC: u16 = 0xef53;

/// Blocks have `1024 << n` bytes, for `n` up to this.
const MOST_BLOCK_EXPONENT: u32 = 6;

/// The sizes of an inode and of a group's descriptor, where no field tells them.
const OLD_INODE: usize = 128;
const OLD_DESCRIPTOR: usize = 32;
const LONG_DESCRIPTOR: usize = 64;

/// The features that this reader can do with, and those among them that change what it does.
const FILE_TYPES: u32 = 0x2;
const RECOVERY: u32 = 0x4;
const EXTENTS: u32 = 0x40;
const LONG: u32 = 0x80;
const MOUNT_PROTECTION: u32 = 0x100;
const FLEXIBLE_GROUPS: u32 = 0x200;
const LARGE_ATTRIBUTES: u32 = 0x400;
const CHECKSUM_SEED: u32 = 0x2000;
const LARGE_DIRECTORIES: u32 = 0x4000;
const INLINE_DATA: u32 = 0x8000;
const ENCRYPTION: u32 = 0x1_0000;
const CASE_FOLDING: u32 = 0x2_0000;
const KNOWN: u32 = FILE_TYPES
    | RECOVERY
    | EXTENTS
    | LONG
    | MOUNT_PROTECTION
    | FLEXIBLE_GROUPS
    | LARGE_ATTRIBUTES
    | CHECKSUM_SEED
    | LARGE_DIRECTORIES
    | INLINE_DATA
    | ENCRYPTION
    | CASE_FOLDING;

impl Superblock {
    pub(super) fn read(image: &File) -> Result<Self, Ext4Error> {
        let bytes = read_up_to(image, OFFSET, SIZE).map_err(Ext4Error::Read)?;
        let fields = Fields(&bytes);
        if fields.u16(0x38) != Some(MAGIC) {
            return Err(Ext4Error::NotExt4);
        }
        Self::parse(fields).ok_or(Ext4Error::NotExt4)?
    }

    /// `None` where the bytes end too soon.
    fn parse(fields: Fields<'_>) -> Option<Result<Self, Ext4Error>> {
        let damaged = |what| Some(Err(Ext4Error::Damaged { what }));
        let features = fields.u32(0x60)?;
        if features & FILE_TYPES == 0 || features & !KNOWN != 0 {
            return Some(Err(Ext4Error::Unsupported { feature: "rare features" }));
        }
        let exponent = fields.u32(0x18)?;
        if exponent > MOST_BLOCK_EXPONENT {
            return damaged("the size of its blocks");
        }
        let block_size = 1024 << exponent;
        let is_first_revision = fields.u32(0x4c)? == 0;
        let inode_size = if is_first_revision { OLD_INODE } else { usize::from(fields.u16(0x58)?) };
        let descriptor_size =
            if features & LONG == 0 { OLD_DESCRIPTOR } else { usize::from(fields.u16(0xfe)?) };
        let is_long = features & LONG != 0;
        if inode_size < OLD_INODE
            || inode_size as u64 > block_size
            || descriptor_size as u64 > block_size
            || (is_long && descriptor_size < LONG_DESCRIPTOR)
        {
            return damaged("the size of its inodes or group descriptors");
        }
        let inodes_per_group = fields.u32(0x28)?;
        if inodes_per_group == 0 {
            return damaged("no inodes");
        }
        Some(Ok(Self {
            block_size,
            inode_size,
            descriptor_size,
            inodes: fields.u32(0)?,
            inodes_per_group,
            // They follow the superblock's own block.
            first_descriptor: OFFSET / block_size + 1,
        }))
    }

    /// The group that an inode belongs to, and its place there.
    pub(super) fn place_of_inode(&self, number: u32) -> Result<(u32, u32), Ext4Error> {
        match number.checked_sub(1) {
            Some(index) if number <= self.inodes => {
                Ok((index / self.inodes_per_group, index % self.inodes_per_group))
            }
            _ => Err(Ext4Error::Damaged { what: "an inode number outside of the file system" }),
        }
    }

    /// Where the descriptor of a group lies, in bytes.
    pub(super) fn descriptor_offset(&self, group: u32) -> u64 {
        // Both products are below 2^49.
        self.first_descriptor * self.block_size + u64::from(group) * self.descriptor_size as u64
    }

    /// Where an inode lies, in bytes, by the descriptor of its group.
    pub(super) fn inode_offset(&self, descriptor: &[u8], index: u32) -> Result<u64, Ext4Error> {
        let fields = Fields(descriptor);
        let low = fields.u32(0x8).map(u64::from);
        // Shorter descriptors have no upper half.
        let high = fields.u32(0x28).map_or(0, u64::from);
        let table = low.map(|low| high << 32 | low).unwrap_or_default();
        let offset = self.block_offset(table)?;
        Ok(offset.saturating_add(u64::from(index) * self.inode_size as u64))
    }

    /// Where a block lies, in bytes.
    pub(super) fn block_offset(&self, block: u64) -> Result<u64, Ext4Error> {
        // What lies further than a file can reach is no place in one.
        let offset = block.checked_mul(self.block_size).filter(|offset| *offset < 1 << 62);
        offset.ok_or(Ext4Error::Damaged { what: "a block behind its end" })
    }
}
