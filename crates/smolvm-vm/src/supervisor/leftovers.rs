//! What is left of machines whose supervisor is gone, and machines that other programs own.
//!
//! Everything here happens under the lock beside the machines' directories, under which
//! supervisors make and remove them, and only with a machine whose own lock is free.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use smolvm_fork::Unshared;
use smolvm_supervisor::state::{self, DETACHED, FILE, GLOBAL_LOCK, GONE, LOCK, Process, RECORD};

use super::error::SupervisorError;
use super::status::{read, status, wait_until_ended};
use crate::cgroup;
use crate::places::VmDirs;

/// How long a supervisor may take to end its machine, and to remove it.
const END: Duration = Duration::from_secs(30);
/// How long a process may take to be gone after it was killed.
const KILL: Duration = Duration::from_secs(10);

/// Removes what dead programs have left in the directory of the machines. What cannot be removed
/// stays for the next time; what is no machine is left alone.
pub(crate) fn sweep(vms: &Path) {
    let Ok(entries) = fs_err::read_dir(vms) else { return };
    for directory in entries.flatten().map(|entry| entry.path()) {
        if is_machine(&directory) {
            sweep_one(&directory);
        }
    }
}

/// As [`sweep`], for one directory, which may also be empty.
pub(super) fn sweep_one(directory: &Path) {
    let swept = Quiet::find(directory).and_then(|quiet| match quiet {
        None => Ok(()),
        Some(quiet) if is_kept(directory) => {
            quiet.tidy();
            Ok(())
        }
        Some(quiet) => quiet.remove(),
    });
    if let Err(error) = swept {
        log::debug!("cannot remove what a dead program has left: {error}");
    }
}

/// What is in the directory of machines and is supervised by nobody.
pub(crate) enum Leftover {
    /// Of a program that is dead, and owned it.
    OfDeadProgram(Quiet),
    /// A machine that stays and does not run.
    Kept(Quiet),
}

/// Looks whether a directory is that of a machine that nobody supervises. Nobody begins to as long
/// as what is returned is there.
pub(crate) fn leftover(directory: &Path) -> Result<Option<Leftover>, SupervisorError> {
    if !is_machine(directory) {
        return Ok(None);
    }
    let quiet = Quiet::find(directory)?;
    let kind = if is_kept(directory) { Leftover::Kept } else { Leftover::OfDeadProgram };
    Ok(quiet.map(kind))
}

impl Leftover {
    /// Removes all of it.
    pub(crate) fn remove(self) -> Result<(), SupervisorError> {
        match self {
            Self::OfDeadProgram(quiet) | Self::Kept(quiet) => quiet.remove(),
        }
    }
}

/// Where the supervisor of a machine writes how it does.
pub(crate) fn state_file(directory: &Path) -> PathBuf {
    directory.join(FILE)
}

/// Ends a machine at once that this process does not own, and removes all that it had.
pub(crate) fn remove(dirs: &VmDirs) -> Result<(), SupervisorError> {
    let supervisor = read(&dirs.state).map(|state| state.supervisor);
    for (signal, patience) in [(Signal::TERM, END), (Signal::KILL, KILL)] {
        if let Some(supervisor) = supervisor {
            send(supervisor, signal);
        }
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if let Some(quiet) = Quiet::find(&dirs.state)? {
                quiet.remove()?;
                return remove_runtime(&dirs.runtime);
            }
            if !dirs.state.exists() {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
    Err(SupervisorError::Silent(END))
}

/// Ends the VMM of a machine at once that this process does not own; returns when it has ended.
pub(crate) fn kill_vmm(directory: &Path) -> Result<(), SupervisorError> {
    if status(directory).vmm().is_some()
        && let Some(state) = read(directory)
        && let state::Status::Running(vmm) = state.status
    {
        send(vmm, Signal::KILL);
    }
    if wait_until_ended(directory, Instant::now() + KILL) {
        Ok(())
    } else {
        Err(SupervisorError::Silent(KILL))
    }
}

/// A machine that nobody supervises, and nobody begins to as long as this is there.
pub(crate) struct Quiet {
    directory: PathBuf,
    global: GlobalLock,
    /// `None` where the directory was left before there was a lock in it.
    lock: Option<Unshared<File>>,
}

impl Quiet {
    /// `None` where there is no such machine, or it is supervised.
    fn find(directory: &Path) -> Result<Option<Self>, SupervisorError> {
        // Without this nothing is made in a directory that has no machines.
        if !directory.is_dir() {
            return Ok(None);
        }
        let global = lock_globally(directory)?;
        let path = directory.join(LOCK);
        let lock = match File::open(&path).map(Unshared::new) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(SupervisorError::io(&path, "open", error)),
            Ok(lock) => match lock.try_lock() {
                Ok(()) => Some(lock),
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => {
                    return Err(SupervisorError::io(&path, "lock", error));
                }
            },
        };
        Ok(Some(Self { directory: directory.to_owned(), global, lock }))
    }

    /// Ends what still runs of it, and removes its sockets.
    fn tidy(&self) {
        let Some(state) = read(&self.directory) else { return };
        let vmm = match state.status {
            state::Status::Running(vmm) => Some(vmm),
            state::Status::Created | state::Status::Ended { .. } => None,
        };
        for process in vmm.into_iter().chain(state.helpers) {
            send(process, Signal::KILL);
        }
        cgroup::remove_left(&state.runtime);
        if let Err(error) = remove_runtime(&state.runtime) {
            log::debug!("{error}");
        }
    }

    /// Removes all of it.
    fn remove(self) -> Result<(), SupervisorError> {
        self.tidy();
        let directory = &self.directory;
        let name = directory.file_name().unwrap_or_default().to_string_lossy();
        let gone = if name.starts_with(GONE) {
            directory.clone()
        } else if self.lock.is_none() {
            // It is not known to be a machine's, unless there is nothing in it.
            return fs_err::remove_dir(directory)
                .map_err(|error| SupervisorError::io(directory, "remove", error));
        } else {
            // No other directory has this name: the lock is ours.
            let gone = format!("{GONE}{name}-{}-{}", std::process::id(), state::now());
            let gone = directory.with_file_name(gone);
            fs_err::rename(directory, &gone)
                .map_err(|error| SupervisorError::io(directory, "remove", error))?;
            gone
        };
        // Others need not wait while a large disk is removed.
        drop(self.global);
        match fs_err::remove_dir_all(&gone) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(SupervisorError::io(&gone, "remove", error))
            }
            _ => Ok(()),
        }
    }
}

/// Whether a directory is that of a machine, whole or not.
fn is_machine(directory: &Path) -> bool {
    let Ok(entries) = fs_err::read_dir(directory) else { return false };
    if directory
        .file_name()
        .is_some_and(|name| name.as_encoded_bytes().starts_with(GONE.as_bytes()))
    {
        return true;
    }
    let names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
    let has = |name: &str| names.iter().any(|other| other == name);
    let first = [LOCK, DETACHED, "state.new"];
    has(LOCK) && (has(FILE) || names.iter().all(|name| first.iter().any(|first| name == first)))
}

/// Whether a machine stays without its owner.
fn is_kept(directory: &Path) -> bool {
    directory.join(DETACHED).exists() && directory.join(RECORD).exists()
}

/// Removes the directory of a machine's sockets; nothing but sockets and plain files, there and in
/// the directory of those that its VMM made.
fn remove_runtime(runtime: &Path) -> Result<(), SupervisorError> {
    let entries = match fs_err::read_dir(runtime) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(|error| SupervisorError::io(runtime, "list", error))?,
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_runtime(&entry.path())?;
        } else if entry.file_type().is_ok_and(|kind| kind.is_socket() || kind.is_file()) {
            let path = entry.path();
            fs_err::remove_file(&path)
                .map_err(|error| SupervisorError::io(&path, "remove", error))?;
        }
    }
    fs_err::remove_dir(runtime).map_err(|error| SupervisorError::io(runtime, "remove", error))
}

/// Sends a signal to this very process, if it still runs.
fn send(process: Process, signal: Signal) {
    let Some(pid) = i32::try_from(process.pid).ok().and_then(Pid::from_raw) else { return };
    // Once the descriptor is there, the number cannot become another's under it.
    if let Ok(descriptor) = pidfd_open(pid, PidfdFlags::empty())
        && process.is_alive()
    {
        let _ = pidfd_send_signal(&descriptor, signal);
    }
}

/// The lock under which machines are made and removed, held.
struct GlobalLock(Unshared<File>);

impl Drop for GlobalLock {
    fn drop(&mut self) {
        // To close it would not do: a child that is being started has it open, too.
        let _ = self.0.unlock();
    }
}

/// Takes the lock beside the machines' directories; waits for it.
fn lock_globally(directory: &Path) -> Result<GlobalLock, SupervisorError> {
    let path = directory.with_file_name(GLOBAL_LOCK);
    let mut options = File::options();
    let file = options.read(true).write(true).create(true).truncate(false).open(&path);
    let file = file.map(Unshared::new);
    let locked = file.and_then(|file| file.lock().map(|()| GlobalLock(file)));
    locked.map_err(|error| SupervisorError::io(&path, "lock", error))
}
