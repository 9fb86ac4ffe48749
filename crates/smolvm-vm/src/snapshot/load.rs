//! [`Source`]: a snapshot on its way into a VMM. Nothing is given to that before its digest was
//! seen to be right.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use rustix::fs::SeekFrom;
use smolvm_protocol::Nonce;

use super::content::Content;
use super::error::SnapshotError;
use super::{MEMORY, STATE, Snapshot};
use crate::backend::{Firecracker, Qmp, Variant, Vmm};
use crate::places::VmDirs;
use crate::supervisor::Setting;

/// A snapshot on its way into a VMM.
#[derive(Debug)]
pub(crate) struct Source {
    /// The snapshot's directory.
    path: PathBuf,
    variant: Variant,
    session: Nonce,
    memory: File,
    /// Where that is no part of the memory.
    state: Option<File>,
    /// The look at the memory, until somebody waits for it: it goes on while the VMM starts.
    check: Mutex<Option<JoinHandle<Result<(), SnapshotError>>>>,
}

/// Why a VMM has not taken a snapshot.
#[derive(Debug)]
pub(crate) enum LoadFailed {
    /// What is wrong with the snapshot.
    Snapshot(SnapshotError),
    /// What the VMM says, or what happened instead.
    Vmm(String),
}

impl Source {
    /// Opens a snapshot's memory, and begins to look whether it is as it was.
    pub(super) fn open(snapshot: &Snapshot) -> Result<Self, SnapshotError> {
        let record = &snapshot.record;
        let mut checks = Vec::new();
        let mut opened = |name: &str, wanted: &Content| -> Result<File, SnapshotError> {
            let path = snapshot.path.join(name);
            let file = open(&path, wanted)?;
            let copy = file.try_clone().map_err(|error| SnapshotError::io(&path, "open", error))?;
            checks.push((copy, path, *wanted));
            Ok(file)
        };
        let memory = opened(MEMORY, &record.files.memory)?;
        let state = record.files.state.as_ref().map(|state| opened(STATE, state)).transpose()?;
        let check = thread::Builder::new()
            .name("smolvm-snapshot".to_owned())
            .spawn(move || {
                checks.iter().try_for_each(|(file, path, wanted)| check(file, path, wanted))
            })
            .map_err(|error| SnapshotError::io(&snapshot.path, "start a thread to read", error))?;
        Ok(Self {
            path: snapshot.path.clone(),
            variant: record.started.variant,
            session: record.session,
            memory,
            state,
            check: Mutex::new(Some(check)),
        })
    }

    /// Puts what a VMM reads by itself where it finds it; QEMU is handed it.
    pub(super) fn place(&self, dirs: &VmDirs) -> Result<(), SnapshotError> {
        let Some(state) = &self.state else { return Ok(()) };
        for (name, file) in [(MEMORY, &self.memory), (STATE, state)] {
            let path = dirs.vmm_files().join(name);
            Firecracker::make_file(dirs, name)
                .and_then(|copy| Content::copy(file, &copy))
                .map_err(|error| SnapshotError::io(&path, "write", error))?;
        }
        Ok(())
    }

    /// The kind of machine that it is.
    pub(crate) fn variant(&self) -> Variant {
        self.variant
    }

    /// What the supervisor is told beside what a VMM of the kind is started with.
    pub(crate) fn settings(&self) -> Vec<Setting> {
        vec![Setting::Succeeds(self.session)]
    }

    /// Gives the machine to a VMM that waits for it, and has it go on. `has_ended` is asked while
    /// that is waited for.
    pub(crate) fn load(
        &self,
        vmm: &Vmm,
        dirs: &VmDirs,
        deadline: Instant,
        has_ended: impl Fn() -> bool,
    ) -> Result<(), LoadFailed> {
        self.wait_checked().map_err(LoadFailed::Snapshot)?;
        let Vmm::Firecracker(firecracker) = vmm else { return self.load_qemu(dirs, deadline) };
        let loaded = firecracker.load(dirs, deadline, has_ended);
        loaded.map_err(|error| LoadFailed::Vmm(error.to_string()))
    }

    fn load_qemu(&self, dirs: &VmDirs, deadline: Instant) -> Result<(), LoadFailed> {
        // Looking at it has moved the cursor, with which QEMU reads.
        let memory = self.path.join(MEMORY);
        rustix::fs::seek(&self.memory, SeekFrom::Start(0))
            .map_err(|error| LoadFailed::Snapshot(SnapshotError::io(&memory, "read", error)))?;
        let left = deadline.saturating_duration_since(Instant::now());
        let loaded = Qmp::connect(&dirs.qmp_socket(), left).and_then(|mut qmp| {
            qmp.migrate_incoming(self.memory.as_fd())?;
            qmp.cont()
        });
        loaded.map_err(|error| LoadFailed::Vmm(error.to_string()))
    }

    /// The error for a VMM that has not taken it.
    pub(crate) fn not_loaded(&self, reason: String) -> SnapshotError {
        SnapshotError::NotLoaded { path: self.path.clone(), reason }
    }

    /// Waits until the memory has been looked at.
    fn wait_checked(&self) -> Result<(), SnapshotError> {
        let check = self.check.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(check) = check else { return Ok(()) };
        check.join().unwrap_or_else(|_| {
            Err(SnapshotError::damaged(&self.path.join(MEMORY), "it could not be looked at"))
        })
    }
}

/// Opens a file of a snapshot, and looks whether it has the right length.
pub(super) fn open(path: &Path, wanted: &Content) -> Result<File, SnapshotError> {
    use rustix::fs::{Mode, OFlags};

    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = rustix::fs::open(path, flags, Mode::empty()).map(File::from).map_err(|error| {
        match std::io::Error::from(error) {
            error if error.kind() == std::io::ErrorKind::NotFound => {
                SnapshotError::damaged(path, "it is missing")
            }
            error => SnapshotError::io(path, "open", error),
        }
    })?;
    let metadata = file.metadata().map_err(|error| SnapshotError::io(path, "look at", error))?;
    if !metadata.is_file() {
        return Err(SnapshotError::damaged(path, "it is no regular file"));
    }
    let length = metadata.len();
    if length != wanted.length {
        let reason = format!("it has {length} bytes instead of {}", wanted.length);
        return Err(SnapshotError::damaged(path, reason));
    }
    Ok(file)
}

/// Looks whether a file is as it was.
pub(super) fn check(file: &File, path: &Path, wanted: &Content) -> Result<(), SnapshotError> {
    let found = Content::of(file).map_err(|error| SnapshotError::io(path, "read", error))?;
    if found == *wanted {
        return Ok(());
    }
    Err(SnapshotError::damaged(path, "what it holds has another digest"))
}
