//! [`VmError`]: everything that can go wrong with a virtual machine, by what the caller can do.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::accel::AccelError;
use crate::backend::{FirecrackerError, QemuError};
use crate::disk::DiskError;
use crate::id::IdError;
use crate::initrd::InitrdError;
use crate::kernel::KernelError;
use crate::network::NetworkError;
use crate::session::SessionError;
use crate::snapshot::SnapshotError;
use crate::state::VmState;
use crate::supervisor::SupervisorError;

/// Why a virtual machine could not be had, or not do what it was asked to. The message names the
/// machine or file and says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VmError {
    /// The id could not be one component of a path.
    #[error("invalid VM id: {0}")]
    Id(#[from] IdError),

    /// A value of the configuration is out of its range.
    #[error("{what} cannot be {value:?}: it must be {wanted}")]
    Value {
        /// The name of the value.
        what: &'static str,
        /// What was given.
        value: String,
        /// What is allowed.
        wanted: String,
    },

    /// There is a machine of that id already.
    #[error(
        "there is a VM '{id}' already. Choose another id, or remove that one: smolvm vm rm {id}"
    )]
    AlreadyExists {
        /// The id.
        id: String,
    },

    /// There is no machine of that id.
    #[error("there is no VM '{id}'. `smolvm vm ls` lists what there is")]
    NotFound {
        /// The id.
        id: String,
    },

    /// The machine does not run.
    #[error("the VM '{id}' is not running, it is {state}. {} it first", remedy(*state))]
    NotRunning {
        /// The machine.
        id: String,
        /// What it is instead.
        state: VmState,
    },

    /// The machine runs in another program, which alone can start and change it.
    #[error("the VM '{id}' belongs to another program that is still running")]
    NotOwner {
        /// The machine.
        id: String,
    },

    /// The guest's agent did not answer in time.
    #[error(
        "the VM '{id}' did not boot within {after:?}{}. Allow it more time (the boot timeout), or look at what it waits for{}",
        vmm_says(vmm.as_deref()),
        console_tail(console)
    )]
    BootTimeout {
        /// The machine.
        id: String,
        /// How long it was given.
        after: Duration,
        /// What its VMM says of it, which need not be so.
        vmm: Option<String>,
        /// The end of what its console said.
        console: String,
    },

    /// The machine ended before its agent answered.
    #[error("the VM '{id}' ended while it booted: {reason}{}", console_tail(console))]
    BootFailed {
        /// The machine.
        id: String,
        /// What is known of why.
        reason: String,
        /// The end of what its console said.
        console: String,
    },

    /// A detached machine's image is not what its disk was made from.
    #[error(
        "{} has changed since the VM '{id}' was made of it, and its disk holds only what differs. Remove the VM and make it anew: smolvm vm rm {id}",
        path.display()
    )]
    BaseChanged {
        /// The machine.
        id: String,
        /// The root file system.
        path: PathBuf,
    },

    /// The kernel cannot be booted.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The initrd could not be made.
    #[error(transparent)]
    Initrd(#[from] InitrdError),
    /// The wanted acceleration cannot be had.
    #[error(transparent)]
    Accel(#[from] AccelError),
    /// QEMU is missing or does not work.
    #[error(transparent)]
    Backend(#[from] QemuError),
    /// Firecracker is missing, does not work, or cannot run such a machine.
    #[error(transparent)]
    Firecracker(#[from] FirecrackerError),
    /// The disk could not be made.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The network could not be made.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The process beside the machine failed.
    #[error("the VM '{id}': {source}")]
    Supervisor {
        /// The machine.
        id: String,
        /// What is wrong.
        source: SupervisorError,
    },
    /// The VMM did not do what it was told.
    #[error("the VM '{id}' was not {action}: {reason}")]
    Vmm {
        /// The machine.
        id: String,
        /// What was to become of it.
        action: &'static str,
        /// What the VMM says, or what happened instead.
        reason: String,
    },
    /// A snapshot was not made, or no machine goes on from it.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The guest's agent could not do what it was asked to, or is not to be believed.
    #[error("the VM '{id}': {source}")]
    Session {
        /// The machine.
        id: String,
        /// What is wrong.
        source: SessionError,
    },

    /// The caller's [`CancelToken`](smolvm_image::CancelToken) was cancelled while it booted.
    #[error("the start of the VM '{id}' was cancelled")]
    Cancelled {
        /// The machine.
        id: String,
    },

    /// The machine has no network, and so no address.
    #[error("the VM '{id}' has no network. Make it with one: network `user`")]
    NoAddress {
        /// The machine.
        id: String,
    },

    /// What was to be booted is a directory or a device.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// What was given.
        path: PathBuf,
    },
    /// Another user has made a directory that must be this user's own.
    #[error(
        "{} belongs to somebody else, who could take the sockets in it. Remove it, or set XDG_RUNTIME_DIR to a directory of your own",
        path.display()
    )]
    ForeignDirectory {
        /// The directory.
        path: PathBuf,
    },
    /// The record of a machine cannot be read.
    #[error("{} cannot be read as a VM's record: {reason}. Remove the VM: smolvm vm rm {id}", path.display())]
    Record {
        /// The machine.
        id: String,
        /// The record.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The home directory, in which machines are kept, is not known.
    #[error("cannot tell the home directory. Set HOME, or name a directory for VMs")]
    Home,
    /// A file or directory could not be used.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was to be done with it.
        action: &'static str,
        /// Why not.
        source: io::Error,
    },
}

/// The classes of [`VmError`], for callers that react to the class alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum VmErrorKind {
    /// The caller asked for something malformed.
    Usage,
    /// There is a machine of that id already.
    AlreadyExists,
    /// There is no machine of that id.
    NotFound,
    /// The machine is not in the state for that.
    State,
    /// The image cannot be booted.
    Image,
    /// This host lacks something.
    Host,
    /// The machine's network.
    Network,
    /// Something took longer than it was given.
    Timeout,
    /// The machine ended, or did not boot.
    Boot,
    /// A command could not be run in the guest.
    Command,
    /// A snapshot.
    Snapshot,
    /// The caller ended it.
    Cancelled,
}

impl VmError {
    /// The class of the error.
    #[must_use]
    pub fn kind(&self) -> VmErrorKind {
        match self {
            Self::Id(_) | Self::Value { .. } => VmErrorKind::Usage,
            Self::AlreadyExists { .. } => VmErrorKind::AlreadyExists,
            Self::NotFound { .. } => VmErrorKind::NotFound,
            Self::NotRunning { .. } | Self::NotOwner { .. } => VmErrorKind::State,
            Self::BaseChanged { .. }
            | Self::Kernel(_)
            | Self::Initrd(_)
            | Self::NotAFile { .. } => VmErrorKind::Image,
            Self::NoAddress { .. } | Self::Network(_) => VmErrorKind::Network,
            Self::BootTimeout { .. } => VmErrorKind::Timeout,
            Self::BootFailed { .. } => VmErrorKind::Boot,
            Self::Session { source: SessionError::CommandTimeout { .. }, .. } => {
                VmErrorKind::Timeout
            }
            Self::Cancelled { .. }
            | Self::Session { source: SessionError::Cancelled, .. }
            | Self::Snapshot(SnapshotError::Cancelled { .. }) => VmErrorKind::Cancelled,
            Self::Session { .. } => VmErrorKind::Command,
            Self::Snapshot(_) => VmErrorKind::Snapshot,
            Self::Accel(_)
            | Self::Backend(_)
            | Self::Firecracker(_)
            | Self::Disk(_)
            | Self::Supervisor { .. }
            | Self::Vmm { .. }
            | Self::ForeignDirectory { .. }
            | Self::Record { .. }
            | Self::Home
            | Self::Io { .. } => VmErrorKind::Host,
        }
    }

    pub(crate) fn io(path: &Path, action: &'static str, source: impl Into<io::Error>) -> Self {
        Self::Io { path: path.to_owned(), action, source: source.into() }
    }
}

fn remedy(state: VmState) -> &'static str {
    match state {
        VmState::Paused => "Resume",
        _ => "Start",
    }
}

fn vmm_says(status: Option<&str>) -> String {
    status.map(|status| format!(" (its VMM says that it is {status})")).unwrap_or_default()
}

fn console_tail(console: &str) -> String {
    if console.is_empty() {
        return "\nIts console said nothing.".to_owned();
    }
    let lines: Vec<_> = console.lines().map(|line| format!("\n    {line}")).collect();
    format!("\nThe end of its console:{}", lines.concat())
}
