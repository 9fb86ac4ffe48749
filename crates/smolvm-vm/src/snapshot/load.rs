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
use crate::accel::Chosen;
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
    /// What is to go on from it, and on what.
    vmm: Vmm,
    chosen: Chosen,
    memory: Part,
    /// What Firecracker has besides, and opens with it by itself.
    state: Option<Part>,
    /// The look at what is handed over as it is, until somebody waits for it: it goes on while the
    /// VMM starts.
    check: Mutex<Option<JoinHandle<Result<(), SnapshotError>>>>,
}

/// A file of the snapshot.
#[derive(Debug)]
struct Part {
    name: &'static str,
    path: PathBuf,
    file: File,
    wanted: Content,
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
    /// Opens what of a snapshot goes into a VMM, and begins to look whether it is as it was.
    pub(super) fn open(
        snapshot: &Snapshot,
        vmm: Vmm,
        chosen: Chosen,
    ) -> Result<Self, SnapshotError> {
        let record = &snapshot.record;
        let memory = Part::open(snapshot, MEMORY, record.files.memory)?;
        let state = record.files.state.map(|wanted| Part::open(snapshot, STATE, wanted));
        let state = state.transpose()?;
        // Of what is copied, it is the copy that is looked at.
        let check = if state.is_none() { Some(memory.begin_check()?) } else { None };
        Ok(Self {
            path: snapshot.path.clone(),
            variant: record.started.variant,
            session: record.session,
            vmm,
            chosen,
            memory,
            state,
            check: Mutex::new(check),
        })
    }

    /// Copies what a VMM reads by itself to where it finds it; QEMU is handed it.
    pub(super) fn place(&self, dirs: &VmDirs) -> Result<(), SnapshotError> {
        let Some(state) = &self.state else { return Ok(()) };
        for part in [&self.memory, state] {
            let path = dirs.vmm_files().join(part.name);
            let copied = Firecracker::make_file(dirs, part.name)
                .and_then(|copy| Content::copy(&part.file, &copy))
                .map_err(|error| SnapshotError::io(&path, "write", error))?;
            compare(&copied, &part.path, &part.wanted)?;
        }
        Ok(())
    }

    /// What is to go on from it, and on what.
    pub(crate) fn host(&self) -> (Chosen, Vmm) {
        (self.chosen.clone(), self.vmm.clone())
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
        dirs: &VmDirs,
        deadline: Instant,
        has_ended: impl Fn() -> bool,
    ) -> Result<(), LoadFailed> {
        let Vmm::Firecracker(firecracker) = &self.vmm else {
            return self.load_qemu(dirs, deadline);
        };
        let loaded = firecracker.load(dirs, deadline, has_ended);
        loaded.map_err(|error| LoadFailed::Vmm(error.to_string()))
    }

    fn load_qemu(&self, dirs: &VmDirs, deadline: Instant) -> Result<(), LoadFailed> {
        self.wait_checked().map_err(LoadFailed::Snapshot)?;
        // Looking at it has moved the cursor, with which QEMU reads.
        let Part { path, file, .. } = &self.memory;
        rustix::fs::seek(file, SeekFrom::Start(0))
            .map_err(|error| LoadFailed::Snapshot(SnapshotError::io(path, "read", error)))?;
        let left = deadline.saturating_duration_since(Instant::now());
        let loaded = Qmp::connect(&dirs.qmp_socket(), left).and_then(|mut qmp| {
            qmp.migrate_incoming(file.as_fd())?;
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
            Err(SnapshotError::damaged(&self.memory.path, "it could not be looked at"))
        })
    }
}

impl Part {
    fn open(
        snapshot: &Snapshot,
        name: &'static str,
        wanted: Content,
    ) -> Result<Self, SnapshotError> {
        let path = snapshot.path.join(name);
        let file = open(&path, &wanted)?;
        Ok(Self { name, path, file, wanted })
    }

    /// Begins to look whether it is as it was.
    fn begin_check(&self) -> Result<JoinHandle<Result<(), SnapshotError>>, SnapshotError> {
        let (path, wanted) = (self.path.clone(), self.wanted);
        let file = self.file.try_clone();
        let file = file.map_err(|error| SnapshotError::io(&path, "open", error))?;
        let thread = thread::Builder::new().name("smolvm-snapshot".to_owned());
        thread
            .spawn(move || check(&file, &path, &wanted))
            .map_err(|error| SnapshotError::io(&self.path, "start a thread to read", error))
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
    compare(&found, path, wanted)
}

fn compare(found: &Content, path: &Path, wanted: &Content) -> Result<(), SnapshotError> {
    if found == wanted {
        return Ok(());
    }
    Err(SnapshotError::damaged(path, "what it holds has another digest"))
}
