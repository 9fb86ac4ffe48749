//! [`Vms`]: all the virtual machines of a user, whichever program made them.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use crate::backend::Backend;
use crate::error::VmError;
use crate::id::VmId;
use crate::places::{Places, VmDirs};
use crate::record::Record;
use crate::state::{VmInfo, VmState};
use crate::supervisor;
use crate::vm::{Machine, SmolVm};

/// The virtual machines of a user.
///
/// ```no_run
/// use smolvm_vm::Vms;
///
/// for vm in Vms::new()?.list()? {
///     println!("{} {}", vm.id, vm.state);
/// }
/// # Ok::<(), smolvm_vm::VmError>(())
/// ```
#[derive(Debug)]
pub struct Vms {
    places: Places,
}

impl Vms {
    /// The machines in `~/.smolvm/vms`.
    ///
    /// # Errors
    /// [`VmError::Io`] where that directory cannot be made.
    pub fn new() -> Result<Self, VmError> {
        Ok(Self { places: Places::make(None)? })
    }

    /// The machines in another directory. A blank path means the usual one.
    ///
    /// # Errors
    /// [`VmError::Io`] where it cannot be made.
    pub fn at(directory: impl Into<PathBuf>) -> Result<Self, VmError> {
        Ok(Self { places: Places::make(Some(&directory.into()))? })
    }

    /// What is known of each machine, by id. What dead programs have left is removed first.
    ///
    /// # Errors
    /// [`VmError::Io`] where the directory cannot be read.
    pub fn list(&self) -> Result<Vec<VmInfo>, VmError> {
        supervisor::sweep(self.places.vms());
        let vms = self.places.vms();
        let entries = fs_err::read_dir(vms).map_err(|error| VmError::io(vms, "list", error))?;
        let mut ids: Vec<VmId> =
            entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
        ids.sort();
        let mut infos = Vec::new();
        for id in ids {
            match self.read(&id) {
                Ok(Some((record, dirs))) => infos.push(info(&record, &dirs)),
                // It is being made, or was removed just now.
                Ok(None) => {}
                Err(error) => log::warn!("{error}"),
            }
        }
        Ok(infos)
    }

    /// The machine of this id.
    ///
    /// # Errors
    /// [`VmError::NotFound`].
    pub fn open(&self, id: &str) -> Result<SmolVm, VmError> {
        let not_found = || VmError::NotFound { id: id.to_owned() };
        // What is no id is the id of no machine.
        let id: VmId = id.parse().map_err(|_| not_found())?;
        let (record, dirs) = self.read(&id)?.ok_or_else(not_found)?;
        Ok(SmolVm {
            id,
            dirs,
            backend: Backend::of(record.backend),
            env: Vec::new(),
            machine: Mutex::new(Machine { record, supervisor: None, assets: None }),
            session: Mutex::new(None),
        })
    }

    /// The directory that has one for each machine.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.places.vms()
    }

    pub(crate) fn read(&self, id: &VmId) -> Result<Option<(Record, VmDirs)>, VmError> {
        let mut dirs = self.places.of(id);
        let record = Record::read(id, &dirs)?;
        Ok(record.map(|record| {
            dirs.runtime.clone_from(&record.runtime);
            (record, dirs)
        }))
    }
}

/// What is known of a machine.
pub(crate) fn info(record: &Record, dirs: &VmDirs) -> VmInfo {
    let status = supervisor::status(&dirs.state);
    VmInfo {
        id: record.id.to_string(),
        state: VmState::of_machine(&record.id, dirs, Backend::of(record.backend), status),
        created: SystemTime::UNIX_EPOCH + Duration::from_secs(record.created),
        detached: record.detached,
        process: status.vmm(),
        ended: status.ended(),
        address: record.address,
        backend: Backend::of(record.backend).into(),
        kernel: record.kernel.clone(),
        rootfs: record.rootfs.clone(),
        vcpu_count: record.vcpu_count,
        mem_size_mib: record.mem_size_mib,
        directory: dirs.state.clone(),
    }
}
