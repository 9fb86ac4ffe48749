//! The two directories of a VM: made by one supervisor alone, and removed so that nobody takes
//! what is left of them for a VM.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::{error, fmt};

use crate::arguments::Mode;
use crate::state;

/// The directories of a VM, while this process supervises it.
pub(crate) struct Directories {
    /// What is kept of it.
    pub(crate) state: PathBuf,
    /// Its sockets.
    pub(crate) runtime: PathBuf,
    is_detached: bool,
    /// Locked while this process lives, so that others see that it does.
    _lock: File,
    runtime_lock: Option<File>,
}

/// Why there are no directories.
#[derive(Debug)]
pub(crate) enum ClaimError {
    /// The VM exists, or has a supervisor.
    Exists,
    /// There is no VM to adopt.
    NotFound,
    /// Something else; the path that it is about.
    Io(PathBuf, io::Error),
}

impl Directories {
    /// Makes the directories, or takes over those of a VM that has no supervisor.
    pub(crate) fn claim(state: &Path, runtime: &Path, mode: Mode) -> Result<Self, ClaimError> {
        let _global = lock_globally(state)?;
        if mode == Mode::Adopt {
            match state.join(state::DETACHED).try_exists() {
                Ok(true) => {}
                Ok(false) => return Err(ClaimError::NotFound),
                Err(error) => return Err(ClaimError::Io(state.to_owned(), error)),
            }
        } else {
            make(state).map_err(|error| match error.kind() {
                io::ErrorKind::AlreadyExists => ClaimError::Exists,
                _ => ClaimError::Io(state.to_owned(), error),
            })?;
        }
        Self::take(state, runtime, mode).inspect_err(|_| {
            // Half a VM is none.
            if mode != Mode::Adopt {
                let _ = fs::remove_dir_all(state);
            }
        })
    }

    /// Takes directories of which the first exists.
    fn take(state: &Path, runtime: &Path, mode: Mode) -> Result<Self, ClaimError> {
        let lock = lock_file(&state.join(state::LOCK))?;
        if mode == Mode::Detached {
            let marker = state.join(state::DETACHED);
            File::create(&marker).map_err(|error| ClaimError::Io(marker, error))?;
        }
        let runtime_lock = claim_runtime(runtime)?;
        Ok(Self {
            state: state.to_owned(),
            runtime: runtime.to_owned(),
            is_detached: mode != Mode::Owned,
            _lock: lock,
            runtime_lock: Some(runtime_lock),
        })
    }

    /// Whether the VM stays when its owner goes. One that is half made does not.
    pub(crate) fn are_kept(&self) -> bool {
        self.is_detached && self.state.join(state::RECORD).exists()
    }

    /// Removes the sockets that the last run of the VMM left, and the directories that hold some.
    pub(crate) fn clear_runtime(&self) {
        for entry in fs::read_dir(&self.runtime).into_iter().flatten().flatten() {
            let path = entry.path();
            let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path));
        }
    }

    /// Removes the directory of the sockets.
    pub(crate) fn remove_runtime(&mut self) -> io::Result<()> {
        if self.runtime_lock.take().is_some() {
            ignore_missing(fs::remove_dir_all(&self.runtime))?;
        }
        Ok(())
    }

    /// Removes both directories.
    pub(crate) fn remove(&mut self) -> Result<(), ClaimError> {
        let name = self.state.file_name().unwrap_or_default().to_string_lossy();
        let gone = format!("{}{name}-{}-{}", state::GONE, std::process::id(), state::now());
        let gone = self.state.with_file_name(gone);
        {
            let _global = lock_globally(&self.state)?;
            self.remove_runtime().map_err(|error| ClaimError::Io(self.runtime.clone(), error))?;
            ignore_missing(fs::rename(&self.state, &gone))
                .map_err(|error| ClaimError::Io(self.state.clone(), error))?;
        }
        // A large disk takes its time; it is nobody's any more.
        ignore_missing(fs::remove_dir_all(&gone)).map_err(|error| ClaimError::Io(gone, error))
    }
}

/// Makes the directory of the sockets. One that a dead supervisor left is taken.
fn claim_runtime(runtime: &Path) -> Result<File, ClaimError> {
    let failed = |error| ClaimError::Io(runtime.to_owned(), error);
    match make(runtime) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            lock_file(runtime)?;
            fs::remove_dir_all(runtime).and_then(|()| make(runtime)).map_err(failed)?;
        }
        made => made.map_err(failed)?,
    }
    lock_file(runtime)
}

/// Locks a file, which is made if it is missing, or a directory. Who holds the lock lives.
fn lock_file(path: &Path) -> Result<File, ClaimError> {
    let failed = |error| ClaimError::Io(path.to_owned(), error);
    let file = open(path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(ClaimError::Exists),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// Takes the lock under which VMs are made and removed; waits for it.
fn lock_globally(state: &Path) -> Result<File, ClaimError> {
    let path = state.with_file_name(state::GLOBAL_LOCK);
    let locked = open(&path).and_then(|file| file.lock().map(|()| file));
    locked.map_err(|error| ClaimError::Io(path, error))
}

fn open(path: &Path) -> io::Result<File> {
    if path.is_dir() {
        return File::open(path);
    }
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn make(directory: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(directory)
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

impl fmt::Display for ClaimError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exists => write!(formatter, "the VM exists already"),
            Self::NotFound => write!(formatter, "there is no such VM"),
            Self::Io(path, error) => write!(formatter, "{}: {error}", path.display()),
        }
    }
}

impl error::Error for ClaimError {}
