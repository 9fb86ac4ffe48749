//! Files that are in use: whoever uses an image holds a shared lock on its files, and who removes
//! it takes the exclusive ones first, without waiting.
//!
//! The lock belongs to the open file. It goes to whoever inherits the descriptor, such as a VMM,
//! and ends with the last of them, however that ends; so nobody unlocks it. A file system without
//! locks has no users that anybody knows of.

use std::fs::{File, TryLockError};
use std::time::{Duration, Instant};

use super::dir::{self, Dir, Inode};
use super::record::{RECORD_FILE, TEMPORARY_RECORD};
use super::usage::Ledger;
use crate::cancel::CancelToken;
use crate::error::ImageError;

/// How long somebody may take to remove a file. Who holds an exclusive lock for longer is not
/// removing it.
const PATIENCE: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Holds a shared lock on an open file, as long as anybody has this descriptor or a copy of it.
/// Whether the file still has its name is for the caller to see afterwards: somebody may just have
/// removed it.
pub(crate) fn hold(file: &File, cancel: &CancelToken) -> Result<(), ImageError> {
    let deadline = Instant::now() + PATIENCE;
    while matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)) {
        if Instant::now() > deadline {
            log::debug!("a file of the cache is locked, and is used without a lock");
            return Ok(());
        }
        if !cancel.sleep(LOOK_AGAIN) {
            return Err(ImageError::Cancelled);
        }
    }
    Ok(())
}

/// The right to remove the files of an image, until it is dropped.
#[derive(Debug, Default)]
pub(super) struct Claim {
    files: Vec<File>,
    /// What somebody else uses.
    pub(super) busy: Vec<Inode>,
    /// Whether what is busy belongs to this image: else it is of another image, which shares it.
    pub(super) is_in_use: bool,
}

impl Drop for Claim {
    fn drop(&mut self) {
        for file in &self.files {
            // A child that another thread has just forked has the file open, too.
            let _ = file.unlock();
        }
    }
}

impl Claim {
    /// Locks the files of an image's directory. `ledger` knows which of their links are to go
    /// before.
    ///
    /// An image shares files with others, which are busy when one of these is in use. Who uses an
    /// image uses all of its files: it is in use if all are busy, or one that no other image has.
    pub(super) fn on(dir: &Dir, ledger: &Ledger) -> Result<Self, ImageError> {
        let mut claim = Self::default();
        let (mut are_free, mut is_busy_alone) = (0, false);
        for name in dir.names()? {
            let Ok(Some(stat)) = dir.stat(&name) else { continue };
            if !dir::is_regular(&stat) || name == RECORD_FILE || name == TEMPORARY_RECORD {
                continue;
            }
            let is_free = match dir.open_file(&name) {
                Ok(Some(file)) => match file.try_lock() {
                    Err(TryLockError::WouldBlock) => false,
                    Ok(()) | Err(TryLockError::Error(_)) => {
                        claim.files.push(file);
                        true
                    }
                },
                Ok(None) => continue,
                // Who may not open another user's file cannot know who uses it.
                Err(_) => dir::is_own(&stat),
            };
            if is_free {
                are_free += 1;
            } else {
                claim.busy.push(Inode::of(&stat));
                is_busy_alone |= ledger.links_left(&stat) <= 1;
            }
        }
        claim.is_in_use = is_busy_alone || are_free == 0 && !claim.busy.is_empty();
        Ok(claim)
    }
}
