//! Files that Firecracker writes a machine into: they are made for it where it finds them, and
//! copied into the snapshot when the machine has gone on.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use super::content::Content;
use super::error::SnapshotError;
use super::staging::Staging;
use super::{MEMORY, STATE};
use crate::backend::Firecracker;
use crate::places::VmDirs;
use crate::vm::SmolVm;

/// How long Firecracker may take to write.
const LONGEST: Duration = Duration::from_mins(10);

/// Files with a machine's memory and with its devices. They are removed with this.
pub(super) struct Given<'a> {
    dirs: &'a VmDirs,
    memory: File,
    state: File,
}

impl<'a> Given<'a> {
    /// Has Firecracker write them for the snapshot at `destination`.
    pub(super) fn save(
        vm: &'a SmolVm,
        firecracker: &Firecracker,
        destination: &Path,
    ) -> Result<Self, SnapshotError> {
        let dirs = &vm.dirs;
        let make = |name: &str| {
            let path = dirs.vmm_files().join(name);
            Firecracker::make_file(dirs, name)
                .map_err(|error| SnapshotError::io(&path, "create", error))
        };
        let given = Self { dirs, memory: make(MEMORY)?, state: make(STATE)? };
        firecracker.save(dirs, Instant::now() + LONGEST).map_err(|reason| {
            let (id, path) = (vm.id.to_string(), destination.to_owned());
            SnapshotError::NotSaved { id, path, reason }
        })?;
        Ok(given)
    }

    /// Copies them into a snapshot.
    pub(super) fn keep(&self, staging: &Staging) -> Result<(Content, Content), SnapshotError> {
        let copy = |name: &str, file: &File| {
            let path = staging.destination().join(name);
            Content::copy(file, &staging.file(name)?)
                .map_err(|error| SnapshotError::io(&path, "write", error))
        };
        Ok((copy(MEMORY, &self.memory)?, copy(STATE, &self.state)?))
    }
}

impl Drop for Given<'_> {
    fn drop(&mut self) {
        Firecracker::remove_files(self.dirs);
    }
}
