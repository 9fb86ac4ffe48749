//! [`VmState`] and [`VmInfo`]: how a virtual machine does.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::SystemTime;

use serde::Serialize;

use crate::backend::Backend;
use crate::config::BackendChoice;
use crate::id::VmId;
use crate::pause;
use crate::places::VmDirs;
use crate::supervisor::{How, Status};

/// How a virtual machine does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum VmState {
    /// It was made and never started.
    Created,
    /// It runs.
    Running,
    /// It stands still, with all that it has in memory, until it is resumed.
    Paused,
    /// It was stopped, or has ended by itself in order.
    Stopped,
    /// It ended otherwise.
    Error,
}

/// What is known of a virtual machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct VmInfo {
    /// Its name.
    pub id: String,
    /// How it does.
    pub state: VmState,
    /// When it was made.
    #[serde(serialize_with = "as_unix_seconds")]
    pub created: SystemTime,
    /// Whether it outlives the program that made it.
    pub detached: bool,
    /// The process of its VMM, while it runs; of one in a jail, the process that keeps the jail and
    /// ends with it.
    pub process: Option<u32>,
    /// How its VMM ended, such as `exit 0` or `signal 9`, once it has.
    pub ended: Option<String>,
    /// Its address, where it has a network.
    pub address: Option<IpAddr>,
    /// The VMM that it was made for.
    pub backend: BackendChoice,
    /// The kernel that it boots.
    pub kernel: PathBuf,
    /// The root file system that its disk was made from.
    pub rootfs: PathBuf,
    /// Its virtual processors, where a number was given.
    pub vcpu_count: Option<u32>,
    /// Its memory in MiB.
    pub mem_size_mib: u32,
    /// Where its files lie.
    pub directory: PathBuf,
}

impl VmState {
    /// The state of a machine: one that runs may be paused.
    pub(crate) fn of_machine(id: &VmId, dirs: &VmDirs, backend: Backend, status: Status) -> Self {
        match Self::of(status) {
            Self::Running if pause::is_paused(id, dirs, backend) => Self::Paused,
            state => state,
        }
    }

    /// The state of a machine whose supervisor says this of it.
    pub(crate) fn of(status: Status) -> Self {
        /// `SIGKILL` and `SIGTERM`: somebody has ended the VMM.
        const BY_SOMEBODY: [i32; 2] = [9, 15];
        match status {
            Status::Created => Self::Created,
            Status::Running(_) => Self::Running,
            Status::Ended(None | Some(How::Exit(0))) => Self::Stopped,
            Status::Ended(Some(How::Signal(signal))) if BY_SOMEBODY.contains(&signal) => {
                Self::Stopped
            }
            Status::Ended(Some(_)) => Self::Error,
        }
    }
}

impl fmt::Display for VmState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
            Self::Error => "error",
        })
    }
}

fn as_unix_seconds<S: serde::Serializer>(
    time: &SystemTime,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    serializer.serialize_u64(since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_failed_is_told_from_one_that_was_ended() {
        let ended = |how| VmState::of(Status::Ended(Some(how)));
        assert_eq!(ended(How::Exit(0)), VmState::Stopped);
        assert_eq!(ended(How::Signal(9)), VmState::Stopped);
        assert_eq!(ended(How::Exit(1)), VmState::Error);
        assert_eq!(ended(How::Signal(11)), VmState::Error);
    }
}
