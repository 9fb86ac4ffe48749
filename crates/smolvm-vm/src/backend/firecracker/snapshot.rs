//! A machine on its way out of a Firecracker and into another one: as files, of which a jailed one
//! makes none by itself, but opens those that are given to it.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::time::Instant;

use super::api::{
    BackendType, MemoryBackend, Running, SnapshotCreateParams, SnapshotLoadParams, SnapshotType, Vm,
};
use super::client::{ApiError, Client};
use super::{Firecracker, FirecrackerError, connect, jail};
use crate::places::VmDirs;
use crate::privileges;

/// The names of the files with the guest's memory and with the state of the machine's devices.
pub(crate) const MEMORY: &str = "memory";
pub(crate) const STATE: &str = "state";

impl Firecracker {
    /// Whether a copy of a machine can run beside it: in a jail its sockets have the same paths.
    pub(crate) fn can_run_copies(&self) -> bool {
        self.jailer.is_some()
    }

    /// Makes an empty file of this name, which it can open.
    pub(crate) fn make_file(dirs: &VmDirs, name: &str) -> io::Result<File> {
        let directory = dirs.vmm_files();
        jail::make(&directory).map_err(io::Error::other)?;
        let path = directory.join(name);
        match fs_err::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = File::options();
        let file = options.read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        if let Some(user) = privileges::number(&dirs.runtime).map_err(io::Error::other)? {
            std::os::unix::fs::fchown(&file, Some(user), Some(user))?;
        }
        Ok(file)
    }

    /// Removes the files that were made, where there are any. Who has them open keeps them.
    pub(crate) fn remove_files(dirs: &VmDirs) {
        for name in [MEMORY, STATE] {
            let _ = fs_err::remove_file(dirs.vmm_files().join(name));
        }
    }

    /// Has one whose guest stands still write what the machine is into the files that were made.
    pub(crate) fn save(&self, dirs: &VmDirs, deadline: Instant) -> Result<(), String> {
        let socket = dirs.api_socket();
        let mut client = Client::connect(&socket, deadline).map_err(|error| error.to_string())?;
        let saved = client.give(&SnapshotCreateParams {
            snapshot_path: self.file(&dirs.vmm_files().join(STATE)),
            mem_file_path: self.file(&dirs.vmm_files().join(MEMORY)),
            snapshot_type: SnapshotType::Full,
        });
        saved.map_err(|error| error.to_string())
    }

    /// Has one that was just started take what the machine is to be, and go on with it.
    pub(crate) fn load(
        &self,
        dirs: &VmDirs,
        deadline: Instant,
        has_ended: impl Fn() -> bool,
    ) -> Result<(), FirecrackerError> {
        let refused = |error: ApiError| FirecrackerError::Api { reason: error.to_string() };
        let mut client = connect(dirs, deadline, has_ended)?;
        let backend_path = self.file(&dirs.vmm_files().join(MEMORY));
        let load = SnapshotLoadParams {
            snapshot_path: self.file(&dirs.vmm_files().join(STATE)),
            mem_backend: MemoryBackend { backend_type: BackendType::File, backend_path },
            resume_vm: false,
        };
        client.give(&load).map_err(refused)?;
        // It has mapped the memory, and read the rest: both go with it.
        Self::remove_files(dirs);
        self.seal(dirs)?;
        client.give(&Vm { state: Running::Resumed }).map_err(refused)
    }
}
