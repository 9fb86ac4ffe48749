//! [`Supervisor`]: the process beside a machine that this process owns.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{io, process};

use command_fds::CommandFdExt as _;
use rustix::process::{Pid, PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal};
use smolvm_supervisor::control::{How, Order, Program, Report};

use super::error::SupervisorError;
use super::executable;
use super::leftovers;
use super::link::Link;
use crate::places::VmDirs;

/// Whose a machine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// It goes with this process.
    Owned,
    /// It stays, once its record is written.
    Detached,
    /// It was made before, stays, and does not run.
    Adopt,
}

/// The process beside a machine. When this is dropped, an owned machine is ended and removed, and
/// a detached one is left alone.
#[derive(Debug)]
pub(crate) struct Supervisor {
    link: Link,
    process: Option<OwnedFd>,
    dirs: VmDirs,
    mode: Mode,
    /// Of the process that started it. A child of that has a copy of this value, not the machine.
    owner: u32,
}

/// How long the supervisor may take to begin.
const BEGIN: Duration = Duration::from_secs(20);
/// How long a launch may take; each program beside the VMM has 5 seconds of its own.
const LAUNCH: Duration = Duration::from_mins(1);
/// How long the VMM may take to end when it is killed.
const KILL: Duration = Duration::from_secs(10);
/// How long it may take to remove a machine; its disk may be large.
const DELETE: Duration = Duration::from_mins(1);
/// How long the process may take to end when everything is done.
const LEAVE: Duration = Duration::from_secs(5);

impl Supervisor {
    /// Starts the process beside a machine, which makes the machine's directories, or takes over
    /// those of a detached one that has no such process. The VMM will have `files`, numbered from
    /// [`FIRST_FILE`](super::FIRST_FILE) on.
    pub(crate) fn spawn(
        dirs: &VmDirs,
        mode: Mode,
        files: Vec<OwnedFd>,
    ) -> Result<Self, SupervisorError> {
        if mode != Mode::Adopt {
            leftovers::sweep_one(&dirs.state);
        }
        let (control, theirs) = UnixStream::pair().map_err(SupervisorError::Start)?;
        let owner = pidfd_open(getpid(), PidfdFlags::empty()).ok();
        let inheritance = Inheritance { control: theirs.into(), owner, files };
        let parent = dirs.state.parent().unwrap_or(Path::new("/"));
        let child = executable::start(parent, |program| inheritance.command(program, dirs, mode))
            .map_err(SupervisorError::Start)?;
        // Else the socket would not tell when the supervisor ends.
        drop(inheritance);
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let process = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        let link = Link::new(control, child).map_err(SupervisorError::Start)?;
        let supervisor = Self { link, process, dirs: dirs.clone(), mode, owner: process::id() };
        let path = dirs.state.clone();
        match supervisor.link.first(BEGIN)? {
            Report::Ready => Ok(supervisor),
            Report::Exists => Err(SupervisorError::Exists { path }),
            Report::NotFound => Err(SupervisorError::NotFound { path }),
            other => Err(failed(other)),
        }
    }

    /// Starts the programs, each when the one before it is ready; the last is the VMM. Returns
    /// its process.
    pub(crate) fn launch(&self, programs: &[Program]) -> Result<u32, SupervisorError> {
        match self.link.ask(&Order::Launch(programs.to_vec()), LAUNCH)? {
            Report::Launched(process) => Ok(process),
            other => Err(failed(other)),
        }
    }

    /// Waits until the VMM that was launched last has ended; returns how. `None`: it has not, or
    /// nothing was launched.
    pub(crate) fn wait_ended(&self, timeout: Duration) -> Option<How> {
        self.link.wait_ended(timeout)
    }

    /// Ends the VMM at once, and returns when it has ended. The machine stays.
    pub(crate) fn kill(&self) -> Result<(), SupervisorError> {
        self.link.kill(KILL)
    }

    /// Ends the machine at once and removes all that it had; returns when that is done.
    pub(crate) fn delete(&self) -> Result<(), SupervisorError> {
        let answer = self.link.ask(&Order::Delete, DELETE);
        if let Ok(Report::Deleted) = answer
            && self.link.wait_gone(LEAVE)
        {
            return Ok(());
        }
        // The kernel kills the machine's programs with it.
        if let Some(process) = &self.process {
            let _ = pidfd_send_signal(process, Signal::KILL);
        }
        self.link.wait_gone(LEAVE);
        leftovers::remove(&self.dirs).map_err(|error| match answer {
            Ok(report) => failed(report),
            Err(_) => error,
        })
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        if self.owner != process::id() {
            return;
        }
        self.link.close();
        // Who makes a machine of the same name next finds the name free; and who ends now leaves
        // the rest to the supervisor.
        if self.mode == Mode::Owned {
            self.link.wait_gone(LEAVE);
        }
    }
}

/// What the supervisor inherits.
struct Inheritance {
    control: OwnedFd,
    /// Refers to this process; `None` where the kernel gives out no such thing, and the control
    /// socket alone tells the supervisor that this process is gone.
    owner: Option<OwnedFd>,
    files: Vec<OwnedFd>,
}

impl Inheritance {
    fn command(&self, program: &Path, dirs: &VmDirs, mode: Mode) -> io::Result<Command> {
        let mut command = Command::new(program);
        command.arg0("smolvm-supervisor").arg(&dirs.state).arg(&dirs.runtime);
        command.arg(match mode {
            Mode::Owned => "owned",
            Mode::Detached => "detached",
            Mode::Adopt => "adopt",
        });
        // Numbers below 3 become the standard streams of the child.
        let copy = |file: &OwnedFd| rustix::io::fcntl_dupfd_cloexec(file, 3);
        let mut inherited = Vec::new();
        for file in [self.owner.as_ref()].into_iter().chain(self.files.iter().map(Some)) {
            let copy = file.map(copy).transpose()?;
            command.arg(copy.as_ref().map_or("-".into(), |copy| copy.as_raw_fd().to_string()));
            inherited.extend(copy);
        }
        command.preserved_fds(inherited);
        command.stdin(Stdio::from(self.control.try_clone()?));
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Ok(command)
    }
}

fn failed(report: Report) -> SupervisorError {
    SupervisorError::Failed(match report {
        Report::Failed(why) => why,
        other => format!("the VM's supervisor answers {other:?}, which is no answer to that"),
    })
}
