//! [`SnapshotError`]: why a snapshot was not made, or no machine goes on from it.

use std::io;
use std::path::{Path, PathBuf};

/// Why a snapshot was not made, or no machine goes on from it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// There is something where the snapshot was to be.
    #[error("{} is there already. Name another directory, or remove that one", path.display())]
    Exists {
        /// The directory.
        path: PathBuf,
    },
    /// There is no snapshot.
    #[error(
        "{} is no snapshot: there is no {} in it. Make one: smolvm vm snapshot ID DIRECTORY",
        path.display(),
        super::RECORD
    )]
    NotFound {
        /// The directory.
        path: PathBuf,
    },
    /// The snapshot is not as it was made.
    #[error(
        "{} is not as it was when the snapshot was made: {reason}. Nothing was started from it. Use an undamaged copy, or make the snapshot anew",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The snapshot was made by what is not here.
    #[error(
        "the snapshot {} was made with {made_with}, and here is {here}: what one has written the other need not understand. Restore it where it was made, or make it anew",
        path.display()
    )]
    Foreign {
        /// The snapshot.
        path: PathBuf,
        /// What it was made with.
        made_with: String,
        /// What is here instead.
        here: String,
    },
    /// A file of the image is not the one that the machine had.
    #[error(
        "{} has changed since the snapshot {} was made, whose disk and memory go with what it was. Put that file back, or make the snapshot anew",
        image.display(),
        path.display()
    )]
    ImageChanged {
        /// The snapshot.
        path: PathBuf,
        /// The kernel, initrd or root file system.
        image: PathBuf,
    },
    /// The machine cannot be had twice.
    #[error("the VM '{id}' cannot be snapshotted: {reason}")]
    Unsupported {
        /// The machine.
        id: String,
        /// Why not, and what to do.
        reason: &'static str,
    },
    /// The file system has no room for the snapshot.
    #[error("not enough room on the disk for {}. Free some, or name a directory elsewhere", path.display())]
    StorageFull {
        /// The file.
        path: PathBuf,
    },
    /// The VMM did not write what the machine is.
    #[error("the VM '{id}' was not written to {}: {reason}", path.display())]
    NotSaved {
        /// The machine.
        id: String,
        /// The snapshot.
        path: PathBuf,
        /// What is known of why.
        reason: String,
    },
    /// The VMM did not take the snapshot.
    #[error("no VM goes on from the snapshot {}: {reason}", path.display())]
    NotLoaded {
        /// The snapshot.
        path: PathBuf,
        /// What is known of why.
        reason: String,
    },
    /// The caller's token was cancelled.
    #[error("the snapshot {} was not made: it was cancelled", path.display())]
    Cancelled {
        /// The snapshot.
        path: PathBuf,
    },
    /// A file could not be used.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was to be done with it.
        action: &'static str,
        /// Why not.
        source: io::Error,
    },
}

impl SnapshotError {
    pub(super) fn io(path: &Path, action: &'static str, source: impl Into<io::Error>) -> Self {
        let (path, source) = (path.to_owned(), source.into());
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::StorageFull { path },
            _ => Self::Io { path, action, source },
        }
    }

    pub(super) fn damaged(path: &Path, reason: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), reason: reason.into() }
    }
}
