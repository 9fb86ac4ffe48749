//! Where the blocks of a file lie: in a tree of extents (`ifork.rst`), or in the map of blocks that
//! ext2 and ext3 have (`blockmap.rst`).

use super::inode::Inode;
use super::{Ext4, Ext4Error};
use crate::kernel::Fields;

/// Blocks of a file that follow each other, and do so in the file system too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    /// The block of the file system that the first one is; `None` for a hole.
    pub(super) start: Option<u64>,
    /// How many there are: at least one.
    pub(super) length: u64,
}

const DAMAGED_TREE: Ext4Error = Ext4Error::Damaged { what: "the tree of a file's blocks" };

/// Finds the block with the number `block` of a file, and how many lie behind it.
pub(super) fn find(ext4: &Ext4<'_>, inode: &Inode, block: u64) -> Result<Run, Ext4Error> {
    let block = u32::try_from(block).map_err(|_| DAMAGED_TREE)?;
    if inode.has_extents() {
        find_extent(ext4, inode, block)
    } else {
        find_mapped(ext4, inode, block)
    }
}

/// The fields of the header of a node in a tree of extents, and of its entries.
mod node {
    pub(super) const MAGIC: u16 = 0xf30a;
    pub(super) const ENTRY: usize = 12;
    /// A tree is never deeper.
    pub(super) const MOST_DEPTH: u16 = 5;
    /// Extents that are longer by this were reserved, but never written.
    pub(super) const UNWRITTEN: u16 = 0x8000;
}

/// Goes down the tree to the extent with the block.
fn find_extent(ext4: &Ext4<'_>, inode: &Inode, block: u32) -> Result<Run, Ext4Error> {
    let mut bytes = inode.root.to_vec();
    let mut depth = Fields(&bytes).u16(6).filter(|depth| *depth <= node::MOST_DEPTH);
    while let Some(level) = depth {
        let entries = entries(&bytes, level).ok_or(DAMAGED_TREE)?;
        let begins_before =
            |entry: &&[u8]| Fields(entry).u32(0).is_some_and(|first| first <= block);
        let Some(entry) = entries.chunks_exact(node::ENTRY).rfind(begins_before) else {
            return Ok(HOLE);
        };
        if level == 0 {
            return extent(Fields(entry), block).ok_or(DAMAGED_TREE);
        }
        let child = child(Fields(entry)).ok_or(DAMAGED_TREE)?;
        bytes = read_block(ext4, child)?;
        depth = level.checked_sub(1);
    }
    Err(DAMAGED_TREE)
}

const HOLE: Run = Run { start: None, length: 1 };

/// The entries of a node, in the order of the blocks that they begin with; `None` where the bytes
/// are no node of that level.
fn entries(node: &[u8], level: u16) -> Option<&[u8]> {
    let header = Fields(node);
    if header.u16(0)? != node::MAGIC || header.u16(6)? != level {
        return None;
    }
    let count = usize::from(header.u16(2)?);
    node.get(node::ENTRY..(count + 1) * node::ENTRY)
}

fn child(entry: Fields<'_>) -> Option<u64> {
    Some(u64::from(entry.u16(8)?) << 32 | u64::from(entry.u32(4)?))
}

fn extent(entry: Fields<'_>, block: u32) -> Option<Run> {
    let length = entry.u16(4)?;
    let is_unwritten = length > node::UNWRITTEN;
    let length = u32::from(if is_unwritten { length - node::UNWRITTEN } else { length });
    let start = u64::from(entry.u16(6)?) << 32 | u64::from(entry.u32(8)?);
    let skipped = block.checked_sub(entry.u32(0)?)?;
    Some(match length.checked_sub(skipped) {
        None | Some(0) => HOLE,
        Some(left) => Run {
            start: (!is_unwritten).then_some(start + u64::from(skipped)),
            length: u64::from(left),
        },
    })
}

/// How many blocks the map in an inode names itself, before those that name others.
const DIRECT: u32 = 12;

/// Goes through the blocks of the map that name other blocks. A 0 stands for a hole.
fn find_mapped(ext4: &Ext4<'_>, inode: &Inode, block: u32) -> Result<Run, Ext4Error> {
    let root = Fields(&inode.root);
    let number = |at: u32| usize::try_from(at).ok().and_then(|at| root.u32(at.checked_mul(4)?));
    if block < DIRECT {
        return Ok(mapped(number(block).ok_or(DAMAGED_TREE)?));
    }
    let per_block = ext4.superblock.block_size / 4;
    let mut left = u64::from(block - DIRECT);
    for level in 1..=3_u32 {
        let below = per_block.pow(level);
        if left < below {
            let root = number(DIRECT + level - 1).ok_or(DAMAGED_TREE)?;
            return find_indirect(ext4, root, level, left);
        }
        left -= below;
    }
    Err(DAMAGED_TREE)
}

fn find_indirect(ext4: &Ext4<'_>, root: u32, levels: u32, block: u64) -> Result<Run, Ext4Error> {
    let per_block = ext4.superblock.block_size / 4;
    let mut number = root;
    for level in (0..levels).rev() {
        if number == 0 {
            return Ok(HOLE);
        }
        let bytes = read_block(ext4, u64::from(number))?;
        let index = block / per_block.pow(level) % per_block;
        let at = usize::try_from(index * 4).map_err(|_| DAMAGED_TREE)?;
        number = Fields(&bytes).u32(at).ok_or(DAMAGED_TREE)?;
    }
    Ok(mapped(number))
}

fn mapped(number: u32) -> Run {
    Run { start: (number != 0).then_some(u64::from(number)), length: 1 }
}

fn read_block(ext4: &Ext4<'_>, number: u64) -> Result<Vec<u8>, Ext4Error> {
    let size = usize::try_from(ext4.superblock.block_size).map_err(|_| DAMAGED_TREE)?;
    let mut bytes = vec![0; size];
    ext4.read_at(ext4.superblock.block_offset(number)?, &mut bytes)?;
    Ok(bytes)
}
