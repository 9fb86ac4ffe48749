//! The entries of a directory (`directory.rst`). The index that large ones have is not used: it
//! lies in what reads as empty entries, so that a look through all finds the same.

use super::Ext4Error;
use crate::kernel::Fields;

/// A name and the inode that it stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    pub(super) name: &'a [u8],
    pub(super) inode: u32,
}

/// The size of an entry without its name.
const HEADER: usize = 8;

const DAMAGED: Ext4Error = Ext4Error::Damaged { what: "a directory" };

/// The entries in the content of a directory, until the first that is damaged.
pub(super) fn entries(
    content: &[u8],
    block_size: u64,
) -> impl Iterator<Item = Result<Entry<'_>, Ext4Error>> {
    let block_size = usize::try_from(block_size).unwrap_or(usize::MAX).max(HEADER);
    content.chunks(block_size).flat_map(move |block| Entries { rest: block, block_size })
}

/// The inode that a name stands for.
pub(super) fn find<'a>(
    mut entries: impl Iterator<Item = Result<Entry<'a>, Ext4Error>>,
    name: &[u8],
) -> Result<Option<u32>, Ext4Error> {
    let found = entries.find(|entry| entry.as_ref().map_or(true, |entry| entry.name == name));
    Ok(found.transpose()?.map(|entry| entry.inode))
}

/// The entries in one block.
struct Entries<'a> {
    rest: &'a [u8],
    block_size: usize,
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>, Ext4Error>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest.is_empty() {
            let Some((entry, rest)) = split_entry(self.rest, self.block_size) else {
                self.rest = &[];
                return Some(Err(DAMAGED));
            };
            self.rest = rest;
            // Inode 0 stands for an entry that was removed, or that holds something else.
            if entry.inode != 0 {
                return Some(Ok(entry));
            }
        }
        None
    }
}

fn split_entry(bytes: &[u8], block_size: usize) -> Option<(Entry<'_>, &[u8])> {
    let fields = Fields(bytes);
    let length = match fields.u16(4)? {
        // A block of 64 KiB is longer than the field can say.
        0 | u16::MAX => block_size,
        length => usize::from(length),
    };
    let name_end = HEADER + usize::from(fields.u8(6)?);
    if length < name_end {
        return None;
    }
    let rest = bytes.get(length..)?;
    Some((Entry { name: bytes.get(HEADER..name_end)?, inode: fields.u32(0)? }, rest))
}
