//! Reads files out of an ext2, ext3 or ext4 file system that is not mounted, by the layout in the
//! kernel's documentation (`Documentation/filesystems/ext4`).
//!
//! The guest may have written any of its bytes, so each number in it is a claim: what is read
//! altogether is bounded, and so are time and memory with it.

mod blocks;
mod directory;
mod inode;
mod superblock;

#[cfg(test)]
pub(super) mod tests;

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use inode::{Inode, Kind};
use superblock::Superblock;

/// A file system in an image file, or in a block device.
///
/// A journal that was not replayed is not looked at: it holds the changes of the last seconds
/// before the guest was cut off, and files that were not changed then read the same without it.
#[derive(Debug)]
pub(super) struct Ext4<'a> {
    image: &'a File,
    superblock: Superblock,
    /// How many more bytes may be read.
    budget: Cell<u64>,
}

/// Why a file could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Ext4Error {
    /// There is no such file system in it.
    #[error("it is no ext4 file system")]
    NotExt4,
    /// It has features that are not known here.
    #[error("it is an ext4 file system with {feature}, which is not read before boot")]
    Unsupported {
        /// What it has, as `inline data`.
        feature: &'static str,
    },
    /// Its numbers contradict each other.
    #[error("its ext4 file system is damaged ({what}); `e2fsck -f` says more")]
    Damaged {
        /// What is wrong, as `an inode number outside of the file system`.
        what: &'static str,
    },
    /// A file, or all of what was read, is larger than anything that is read for.
    #[error("its file {path} is larger than the {limit} bytes that are read before boot")]
    TooLarge {
        /// The file.
        path: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// The image cannot be read.
    #[error("it cannot be read: {0}")]
    Read(io::Error),
}

/// The inode number of the root directory.
const ROOT: u32 = 2;

/// As in the kernel: how many symlinks one path may lead through.
const MOST_SYMLINKS: usize = 40;

/// As in the kernel: how long the target of a symlink may be.
const MOST_TARGET: u64 = 4096;

/// Real directories that lead to modules have some kilobytes.
const MOST_DIRECTORY: u64 = 4 << 20;

/// What may be read altogether: some times what the drivers of a guest need.
const BUDGET: u64 = 512 << 20;

impl<'a> Ext4<'a> {
    /// Opens the file system in `image`, whose cursor is not moved.
    pub(super) fn open(image: &'a File) -> Result<Self, Ext4Error> {
        let superblock = Superblock::read(image)?;
        Ok(Self { image, superblock, budget: Cell::new(BUDGET) })
    }

    /// The content of the file at an absolute path; `None` where there is none. Symlinks are
    /// followed within the file system. More than `limit` bytes are an error.
    pub(super) fn read(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, Ext4Error> {
        match self.resolve(path)? {
            Some(inode) if inode.kind == Kind::File => self.content(&inode, path, limit).map(Some),
            _ => Ok(None),
        }
    }

    /// The names in the directory at an absolute path; `None` where there is none.
    pub(super) fn list(&self, path: &str) -> Result<Option<Vec<String>>, Ext4Error> {
        match self.resolve(path)? {
            Some(inode) if inode.kind == Kind::Directory => {
                let content = self.content(&inode, path, MOST_DIRECTORY)?;
                let mut names = Vec::new();
                for entry in directory::entries(&content, self.superblock.block_size) {
                    names.push(String::from_utf8_lossy(entry?.name).into_owned());
                }
                names.retain(|name| name != "." && name != "..");
                Ok(Some(names))
            }
            _ => Ok(None),
        }
    }

    /// Follows a path from the root, as the guest would.
    fn resolve(&self, path: &str) -> Result<Option<Inode>, Ext4Error> {
        let root = self.inode(ROOT)?;
        let mut place = root.clone();
        // What is still to be followed, the next one last.
        let mut components = reversed_components(path.as_bytes());
        let mut symlinks = 0;
        while let Some(component) = components.pop() {
            if place.kind != Kind::Directory {
                return Ok(None);
            }
            let directory = self.content(&place, path, MOST_DIRECTORY)?;
            let entries = directory::entries(&directory, self.superblock.block_size);
            let Some(number) = directory::find(entries, &component)? else {
                return Ok(None);
            };
            let found = self.inode(number)?;
            if found.kind != Kind::Symlink {
                place = found;
                continue;
            }
            symlinks += 1;
            if symlinks > MOST_SYMLINKS {
                return Ok(None);
            }
            let target = self.target(&found, path)?;
            if target.starts_with(b"/") {
                place = root.clone();
            }
            components.extend(reversed_components(&target));
        }
        Ok(Some(place))
    }

    fn inode(&self, number: u32) -> Result<Inode, Ext4Error> {
        let (group, index) = self.superblock.place_of_inode(number)?;
        let mut descriptor = vec![0; self.superblock.descriptor_size];
        self.read_at(self.superblock.descriptor_offset(group), &mut descriptor)?;
        let mut bytes = vec![0; self.superblock.inode_size];
        self.read_at(self.superblock.inode_offset(&descriptor, index)?, &mut bytes)?;
        Inode::parse(&bytes)
    }

    fn target(&self, symlink: &Inode, path: &str) -> Result<Vec<u8>, Ext4Error> {
        match symlink.short_target() {
            Some(target) => Ok(target.to_vec()),
            None => self.content(symlink, path, MOST_TARGET),
        }
    }

    fn content(&self, inode: &Inode, path: &str, limit: u64) -> Result<Vec<u8>, Ext4Error> {
        inode.check_is_plain()?;
        let block_size = self.superblock.block_size;
        let too_large = || Ext4Error::TooLarge { path: path.to_owned(), limit };
        let size = usize::try_from(inode.size).map_err(|_| too_large())?;
        if inode.size > limit {
            return Err(too_large());
        }
        let mut content = vec![0; size];
        let mut rest = content.as_mut_slice();
        let mut block = 0;
        while !rest.is_empty() {
            let run = blocks::find(self, inode, block)?;
            let length = run.length.saturating_mul(block_size).min(rest.len() as u64);
            let (bytes, behind) = rest.split_at_mut(usize::try_from(length).unwrap_or(usize::MAX));
            match run.start {
                Some(start) => self.read_at(self.superblock.block_offset(start)?, bytes)?,
                // A hole reads as zeros, which are there already, but takes its time too.
                None => self.spend(length)?,
            }
            rest = behind;
            block += run.length;
        }
        Ok(content)
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<(), Ext4Error> {
        self.spend(bytes.len() as u64)?;
        self.image.read_exact_at(bytes, offset).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => Ext4Error::Damaged { what: "a block behind its end" },
            _ => Ext4Error::Read(error),
        })
    }

    fn spend(&self, bytes: u64) -> Result<(), Ext4Error> {
        let left = self.budget.get().checked_sub(bytes);
        self.budget.set(left.ok_or(Ext4Error::Damaged { what: "its files have no end" })?);
        Ok(())
    }
}

fn reversed_components(path: &[u8]) -> Vec<Vec<u8>> {
    let components = path.split(|byte| *byte == b'/').rev();
    components.filter(|component| !component.is_empty()).map(<[u8]>::to_vec).collect()
}
