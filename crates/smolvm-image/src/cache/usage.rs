//! What things take on disk, counted as the disk does: holes not, links once.

use std::collections::{HashMap, HashSet};

use super::dir::{self, Dir, Inode};
use crate::error::ImageError;

/// The bytes that everything in a directory takes on disk.
pub(crate) fn disk_usage(dir: &Dir) -> Result<u64, ImageError> {
    let mut seen = HashSet::new();
    let mut bytes = 0;
    for name in dir.names()? {
        if let Ok(Some(stat)) = dir.stat(&name)
            && seen.insert(Inode::of(&stat))
        {
            bytes += dir::disk_bytes(&stat);
        }
    }
    Ok(bytes)
}

/// Counts what the disk gets back as names go one after the other: a file goes with its last
/// link. It answers the same whether the names are really removed or not.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// The links that are left of each file seen, and its bytes.
    files: HashMap<Inode, (u64, u64)>,
}

impl Ledger {
    /// The bytes that come free when this name goes, too.
    pub(crate) fn free(&mut self, dir: &Dir, name: &str) -> u64 {
        let Ok(Some(stat)) = dir.stat(name) else {
            return 0;
        };
        // A directory has a link for each directory in it; it goes as a whole.
        let links = if dir::is_directory(&stat) { 1 } else { stat.st_nlink };
        let file = self.files.entry(Inode::of(&stat)).or_insert((links, dir::disk_bytes(&stat)));
        file.0 = file.0.saturating_sub(1);
        if file.0 == 0 { file.1 } else { 0 }
    }

    /// The bytes that come free when this directory goes with everything in it.
    pub(crate) fn free_tree(&mut self, parent: &Dir, name: &str) -> Result<u64, ImageError> {
        let mut bytes = self.free(parent, name);
        if let Some(dir) = parent.open_dir(name)? {
            for entry in dir.names()? {
                let is_dir = matches!(dir.stat(&entry), Ok(Some(stat)) if dir::is_directory(&stat));
                bytes +=
                    if is_dir { self.free_tree(&dir, &entry)? } else { self.free(&dir, &entry) };
            }
        }
        Ok(bytes)
    }
}
