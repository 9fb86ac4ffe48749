//! [`SupervisorError`]: what can go wrong with the process beside a machine.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why the process beside a machine did not do what it was told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SupervisorError {
    /// There is a machine in that directory, or it has a supervisor already.
    #[error("{} belongs to a VM that exists already", path.display())]
    Exists {
        /// The directory.
        path: PathBuf,
    },

    /// There is no detached machine in that directory.
    #[error("{} has no VM", path.display())]
    NotFound {
        /// The directory.
        path: PathBuf,
    },

    /// The supervisor could not be started.
    #[error(
        "cannot start the VM's supervisor: {0}. It is run from memory, else from the directory of the VMs; one of these must be allowed to hold programs"
    )]
    Start(#[source] io::Error),

    /// The supervisor could not do what it was told.
    #[error("{0}")]
    Failed(String),

    /// The supervisor has ended before it was told to.
    #[error("the VM's supervisor has ended{}. The VM has ended with it", ending(how.as_deref()))]
    Gone {
        /// How it ended, where that is known.
        how: Option<String>,
    },

    /// The supervisor did not answer.
    #[error("the VM's supervisor did not answer within {0:?}; this host may be overloaded")]
    Silent(Duration),

    /// Something of the machine's could not be looked at or removed.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What it was.
        path: PathBuf,
        /// What was to be done with it.
        action: &'static str,
        /// Why not.
        source: io::Error,
    },
}

impl SupervisorError {
    pub(super) fn io(path: &Path, action: &'static str, source: impl Into<io::Error>) -> Self {
        Self::Io { path: path.to_owned(), action, source: source.into() }
    }
}

fn ending(how: Option<&str>) -> String {
    how.map(|how| format!(" ({how})")).unwrap_or_default()
}
