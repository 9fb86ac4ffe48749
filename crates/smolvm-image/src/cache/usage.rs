//! What things take on disk, counted as the disk does: holes not, links once.

use std::collections::{HashMap, HashSet};

use rustix::fs::Stat;

use super::dir::{self, Dir, Inode};
use crate::error::ImageError;

/// The bytes that a directory takes on disk with everything below it, as `du` counts them.
pub(crate) fn disk_usage(dir: &Dir) -> Result<u64, ImageError> {
    let stat = dir.own_stat().map_err(|error| ImageError::io(dir.path(), "look at", error))?;
    let mut seen = HashSet::new();
    Ok(dir::disk_bytes(&stat) + usage_of_entries(dir, &mut seen))
}

/// What this user may not look into counts for nothing.
fn usage_of_entries(dir: &Dir, seen: &mut HashSet<Inode>) -> u64 {
    let mut bytes = 0;
    for name in dir.names().unwrap_or_default() {
        // What goes at this moment is not there.
        let Ok(Some(stat)) = dir.stat(&name) else { continue };
        if seen.insert(Inode::of(&stat)) {
            bytes += dir::disk_bytes(&stat);
        }
        if dir::is_directory(&stat)
            && let Ok(Some(below)) = dir.open_dir(&name)
        {
            bytes += usage_of_entries(&below, seen);
        }
    }
    bytes
}

/// Counts what the disk gets back as names go one after the other: a file goes with its last
/// link. It answers the same whether the names are really removed or not.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// The links that are left of each file seen, and its bytes.
    files: HashMap<Inode, (u64, u64)>,
    kept: HashSet<Inode>,
}

impl Ledger {
    /// Counts these files for nothing: somebody has them open.
    pub(crate) fn keep(&mut self, files: &[Inode]) {
        self.kept.extend(files);
    }

    /// The links that a file has, without those that have gone.
    pub(crate) fn links_left(&self, stat: &Stat) -> u64 {
        self.files.get(&Inode::of(stat)).map_or(stat.st_nlink, |(links, _)| *links)
    }

    /// The bytes that come free when this name goes, too.
    pub(crate) fn free(&mut self, dir: &Dir, name: &str) -> u64 {
        let Ok(Some(stat)) = dir.stat(name) else {
            return 0;
        };
        // A directory has a link for each directory in it; it goes as a whole.
        let links = if dir::is_directory(&stat) { 1 } else { stat.st_nlink };
        let inode = Inode::of(&stat);
        let file = self.files.entry(inode).or_insert((links, dir::disk_bytes(&stat)));
        file.0 = file.0.saturating_sub(1);
        if file.0 == 0 && !self.kept.contains(&inode) { file.1 } else { 0 }
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
