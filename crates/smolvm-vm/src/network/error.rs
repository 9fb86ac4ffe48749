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

    /// A tap device needs more privileges than this process has.
    #[error(
        "a tap network needs root (CAP_NET_ADMIN and CAP_SYS_ADMIN). Run as root, or use the network `user`, which needs no privileges"
    )]
    Privileges,

    /// This host does not pass packets on.
    #[error(
        "a tap network needs a host that passes packets on, and this one does not. Have it do so: sysctl -w net.ipv4.ip_forward=1"
    )]
    Forwarding,

    /// A program that a tap network needs is missing.
    #[error("a tap network needs {program}, which is missing. Install the package {package}")]
    Missing {
        /// The program.
        program: &'static str,
        /// The Debian package that has it.
        package: &'static str,
    },

    /// What the network `user` of a VMM that knows tap devices alone is made of cannot be made.
    #[error(
        "Firecracker needs a network namespace with tap devices for the network `user`, and there can be none here: {reason}. Run as root, have the host allow user namespaces and /dev/net/tun, use the network `none`, or choose QEMU as the backend"
    )]
    Namespace {
        /// Why not.
        reason: String,
    },

    /// The addresses for guests with a tap are no network.
    #[error(
        "SMOLVM_TAP_POOL is {pool:?}, and must be an IPv4 network of at least two addresses, such as 10.87.0.0/16"
    )]
    Pool {
        /// What was given.
        pool: String,
    },

    /// What the program beside the VM tells of the guest's addresses cannot be read.
    #[error("cannot read the guest's addresses from {}: {source}", path.display())]
    Told {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}
