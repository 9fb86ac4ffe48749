//! [`NetworkError`]: why a VM's network could not be planned.

use std::io;
use std::path::PathBuf;

/// Why a VM's network could not be planned. That it leads nowhere is no error but a notice.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// The path of the network's socket is too long for the kernel.
    #[error(
        "the path of the network's socket, {}, has {length} bytes, and {max} are the most. Use a directory with a shorter path for sockets (XDG_RUNTIME_DIR)",
        path.display()
    )]
    LongPath {
        /// The path.
        path: PathBuf,
        /// Its length in bytes.
        length: usize,
        /// The most bytes that a socket's path can have.
        max: usize,
    },

    /// passt could not be tried.
    #[error("cannot try whether {} works: {source}", program.display())]
    Probe {
        /// Where passt is.
        program: PathBuf,
        /// Why not.
        source: io::Error,
    },
}
