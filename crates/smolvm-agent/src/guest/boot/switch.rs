//! Leaves the initial RAM disk for the root file system.

use std::env;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, chroot};
use std::path::{Path, PathBuf};

use super::error::BootError;
use crate::sys::mount;

/// What is left of the initial RAM disk: files in memory that nobody can reach any more.
#[derive(Debug)]
pub(super) struct Leftover(File);

/// Makes what is mounted at `root` the root of this process and its children.
pub(super) fn enter(root: &Path) -> Result<Leftover, BootError> {
    let enter = || {
        let leftover = File::open("/")?;
        env::set_current_dir(root)?;
        mount::move_to(Path::new("."), Path::new("/"))?;
        chroot(".")?;
        env::set_current_dir("/")?;
        Ok(Leftover(leftover))
    };
    enter().map_err(BootError::Enter)
}

impl Leftover {
    /// Frees the memory. What cannot be freed is lost to the guest, and nothing else.
    pub(super) fn free(self) {
        let root = PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()));
        if let Ok(metadata) = self.0.metadata() {
            let _ = remove_below(&root.join("."), metadata.dev());
        }
    }
}

/// Removes all that is below `directory` on the same file system.
fn remove_below(directory: &Path, file_system: u64) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let metadata = fs::symlink_metadata(&path)?;
        if metadata.dev() != file_system {
            continue;
        }
        // What cannot be removed does not keep the rest.
        let _ = if metadata.is_dir() {
            remove_below(&path, file_system).and_then(|()| fs::remove_dir(&path))
        } else {
            fs::remove_file(&path)
        };
    }
    Ok(())
}
