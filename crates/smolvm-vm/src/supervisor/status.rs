//! How a machine does, whoever owns it: what its supervisor has written down.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use smolvm_protocol::Nonce;
use smolvm_supervisor::control::How;
use smolvm_supervisor::state::{self, Process, State};

/// How a machine does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// It was never started.
    Created,
    /// Its VMM runs, as this process.
    Running(u32),
    /// Its VMM has ended. `None`: with its supervisor, so that nobody saw how.
    Ended(Option<How>),
}

/// How often it is looked whether a machine has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

impl Status {
    /// The process of its VMM, while it runs.
    pub(crate) fn vmm(self) -> Option<u32> {
        match self {
            Self::Running(process) => Some(process),
            Self::Created | Self::Ended(_) => None,
        }
    }

    /// How its VMM has ended, for people, once it has.
    pub(crate) fn ended(self) -> Option<String> {
        match self {
            Self::Ended(Some(how)) => Some(how.to_string()),
            Self::Ended(None) => Some("killed with its supervisor".to_owned()),
            Self::Created | Self::Running(_) => None,
        }
    }
}

/// How the machine with this directory does.
pub(crate) fn status(directory: &Path) -> Status {
    match read(directory) {
        // What it wrote last is not what is, once it is gone; it may just have gone.
        Some(state) if !state.supervisor.is_alive() => {
            read(directory).map_or(Status::Created, |state| without_supervisor(&state))
        }
        Some(state) => match state.status {
            state::Status::Created => Status::Created,
            state::Status::Running(vmm) => Status::Running(vmm.pid),
            state::Status::Ended { how, .. } => Status::Ended(Some(how)),
        },
        None => Status::Created,
    }
}

/// The VMM of the machine with this directory, while it runs.
pub(crate) fn vmm(directory: &Path) -> Option<Process> {
    match running(directory)?.status {
        state::Status::Running(vmm) => Some(vmm),
        state::Status::Created | state::Status::Ended { .. } => None,
    }
}

/// The nonce of the session with the agent of the machine with this directory, while it runs and
/// its agent answers.
pub(crate) fn session(directory: &Path) -> Option<Nonce> {
    running(directory)?.session
}

fn running(directory: &Path) -> Option<State> {
    status(directory).vmm()?;
    read(directory)
}

/// Waits until a machine does not run; returns whether that was before the deadline.
pub(crate) fn wait_until_ended(directory: &Path, deadline: Instant) -> bool {
    loop {
        if status(directory).vmm().is_none() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(LOOK_AGAIN);
    }
}

/// The state that the supervisor has written down. One that cannot be read is none.
pub(super) fn read(directory: &Path) -> Option<State> {
    State::read(directory)
        .inspect_err(|error| log::debug!("{}: {error}", directory.join(state::FILE).display()))
        .ok()
        .flatten()
}

fn without_supervisor(state: &State) -> Status {
    match state.status {
        state::Status::Created => Status::Created,
        state::Status::Running(_) => Status::Ended(None),
        state::Status::Ended { how, .. } => Status::Ended(Some(how)),
    }
}
