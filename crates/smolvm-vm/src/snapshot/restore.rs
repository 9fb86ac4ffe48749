//! [`RestoreConfig`], and making a machine that goes on from a snapshot.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use smolvm_image::{CancelToken, Digest};

use super::error::SnapshotError;
use super::load::{self, Source};
use super::record::{Host, ImageFile, SnapshotRecord, processor};
use super::{RECORD, Snapshot};
use crate::accel::Chosen;
use crate::assets::Assets;
use crate::backend::{Backend, Vmm};
use crate::boot::{self, Origin};
use crate::config::{BootFile, check_env};
use crate::create;
use crate::disk::{self, Base};
use crate::error::VmError;
use crate::id::VmId;
use crate::network;
use crate::pause::Note;
use crate::places::{Places, VmDirs};
use crate::record::{DiskRecord, FileIdentity, Record, now};
use crate::supervisor::{self, Mode};
use crate::vm::{DEFAULT_BOOT_TIMEOUT, Machine, SmolVm};

/// What a machine that goes on from a snapshot is to have of its own. All else is as it was.
///
/// ```no_run
/// use smolvm_vm::{RestoreConfig, Snapshot, Vm};
///
/// let snapshot = Snapshot::open("prepared")?;
/// let vm = Vm::restore(&snapshot, RestoreConfig::new().id("worker-1")?)?;
/// assert_eq!(vm.id(), "worker-1");
/// # Ok::<(), smolvm_vm::VmError>(())
/// ```
#[derive(Debug, Clone, Default)]
#[must_use = "a configuration does nothing before a VM is made of it"]
pub struct RestoreConfig {
    id: Option<VmId>,
    env: BTreeMap<String, String>,
    detached: bool,
    digest: Option<Digest>,
    timeout: Option<Duration>,
    cancel: Option<CancelToken>,
    vms_dir: Option<PathBuf>,
}

impl RestoreConfig {
    /// A machine of a name that is made up, which goes with this program.
    pub fn new() -> Self {
        Self::default()
    }

    /// The name of the machine. One with a network is called so inside, too.
    ///
    /// # Errors
    /// [`VmError::Id`] where it is none.
    pub fn id(mut self, id: &str) -> Result<Self, VmError> {
        self.id = Some(id.parse()?);
        Ok(self)
    }

    /// A variable in the environment of every command that this program runs in the machine. What
    /// runs in it already does not have it.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// Whether the machine outlives this program. Then it is only ended by name.
    pub fn detached(mut self, detached: bool) -> Self {
        self.detached = detached;
        self
    }

    /// The digest that the snapshot had when it was made ([`Snapshot::digest`]): nothing is
    /// started from another one, whoever has written it.
    pub fn digest(mut self, digest: Digest) -> Self {
        self.digest = Some(digest);
        self
    }

    /// How long it may take until the machine runs commands; 30 s where nothing else is said.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// A token that ends the call once it is cancelled; then nothing is left.
    pub fn cancel(mut self, cancel: &CancelToken) -> Self {
        self.cancel = Some(cancel.clone());
        self
    }

    /// The directory of all machines, instead of `~/.smolvm/vms`.
    pub fn vms_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.vms_dir = Some(directory.into());
        self
    }
}

/// Makes a machine that goes on from a snapshot; returns when it runs commands.
pub(super) fn restore(snapshot: &Snapshot, config: RestoreConfig) -> Result<SmolVm, VmError> {
    check_env(&config.env)?;
    if config.digest.is_some_and(|wanted| wanted != snapshot.digest) {
        let path = snapshot.path.join(RECORD);
        return Err(
            SnapshotError::damaged(&path, "its digest is not the one that was asked for").into()
        );
    }
    let backend = Backend::of(snapshot.record.backend);
    let places = Places::make(config.vms_dir.as_deref())?;
    supervisor::sweep(places.vms());
    network::sweep();
    let id = config.id.clone().unwrap_or_else(VmId::make_up);
    let dirs = places.of(&id);
    let assets = open_image(&snapshot.record, &dirs, backend)?;
    let (vmm, chosen) = check_host(snapshot, backend, &assets)?;
    let source = Source::open(snapshot, vmm, chosen)?;
    check_image(snapshot, &assets)?;

    let mode = if config.detached { Mode::Detached } else { Mode::Owned };
    let supervisor = assets.supervise(&id, &dirs, mode)?;
    let noted = note(&dirs, backend);
    let given = noted.and_then(|()| Ok(source.place(&dirs)?));
    let furnished = given.and_then(|()| furnish(snapshot, &config, &id, &dirs, &assets));
    let record = match furnished {
        Ok(record) => record,
        Err(error) => {
            // An owned one would go by itself. What failed first is what is told.
            let _ = supervisor.delete();
            return Err(error);
        }
    };
    let vm = SmolVm {
        id,
        dirs,
        backend,
        env: config.env.into_iter().collect(),
        machine: Mutex::new(Machine { record, supervisor: Some(supervisor), assets: Some(assets) }),
        session: Mutex::new(None),
    };
    let timeout = config.timeout.unwrap_or(DEFAULT_BOOT_TIMEOUT);
    let cancel = config.cancel.unwrap_or_default();
    let origin = Origin::Snapshot(&source);
    let booted = boot::boot(&vm, &mut vm.machine(), origin, timeout, &cancel);
    let cleared = booted.and_then(|session| {
        clear(&vm.dirs, backend)?;
        Ok(session)
    });
    match cleared {
        Ok(session) => {
            vm.keep_session(session);
            Ok(vm)
        }
        Err(error) => {
            let _ = vm.delete();
            Err(error)
        }
    }
}

/// Notes what the supervisor has to know: Firecracker has the guest end connections that it had,
/// perhaps after it has taken a new one. QEMU's channel is no connection.
fn note(dirs: &VmDirs, backend: Backend) -> Result<(), VmError> {
    match backend {
        Backend::Qemu => Ok(()),
        Backend::Firecracker => Note::take(dirs)?.restored(),
    }
}

/// Removes that note.
fn clear(dirs: &VmDirs, backend: Backend) -> Result<(), VmError> {
    match backend {
        Backend::Qemu => Ok(()),
        Backend::Firecracker => Note::take(dirs)?.clear(),
    }
}

/// Opens the files of the image that the machine was made of.
fn open_image(record: &SnapshotRecord, dirs: &VmDirs, backend: Backend) -> Result<Assets, VmError> {
    let file = |file: &ImageFile| BootFile::at(&file.path);
    let initrd = record.initrd.as_ref().map(file);
    let (kernel, rootfs) = (file(&record.kernel), file(&record.rootfs));
    Assets::open(&kernel, &rootfs, initrd.as_ref(), backend, &dirs.kernels())
}

/// What of this host goes on from the snapshot. Refuses what has not made it.
fn check_host(
    snapshot: &Snapshot,
    backend: Backend,
    assets: &Assets,
) -> Result<(Vmm, Chosen), VmError> {
    let vmm = backend.find(assets.kernel.architecture)?;
    if let Vmm::Firecracker(firecracker) = &vmm
        && !firecracker.can_run_copies()
    {
        let path = snapshot.path.clone();
        let made_with = "Firecracker in its jail".to_owned();
        let here = "Firecracker without one".to_owned();
        return Err(SnapshotError::Foreign { path, made_with, here }.into());
    }
    let chosen = backend.accelerator(assets.kernel.architecture)?;
    let here = Host {
        vmm: backend.name(),
        version: vmm.version(),
        accelerator: chosen.accelerator,
        processor: processor(chosen.accelerator),
    };
    snapshot.record.check_host(&snapshot.path, &here)?;
    Ok((vmm, chosen))
}

/// Refuses other files of the image than those that the machine had.
fn check_image(snapshot: &Snapshot, assets: &Assets) -> Result<(), VmError> {
    let SnapshotRecord { kernel, initrd, rootfs, .. } = &snapshot.record;
    kernel.check(assets.image_kernel(), &snapshot.path)?;
    rootfs.check(&assets.rootfs, &snapshot.path)?;
    if let (Some(initrd), Some(file)) = (initrd, &assets.initrd) {
        initrd.check(file, &snapshot.path)?;
    }
    Ok(())
}

/// Makes the disk of a machine, and its record, which is written when the guest is its own.
fn furnish(
    snapshot: &Snapshot,
    config: &RestoreConfig,
    id: &VmId,
    dirs: &VmDirs,
    assets: &Assets,
) -> Result<Record, VmError> {
    let record = &snapshot.record;
    let path = record.disk.path(&snapshot.path);
    let file = load::open(&path, &record.files.disk)?;
    load::check(&file, &path, &record.files.disk)?;
    disk::duplicate(&record.disk, Base { file: &file, path: &path }, &dirs.state)?;
    let record = Record {
        version: Record::VERSION,
        id: id.clone(),
        created: now(),
        detached: config.detached,
        kernel: record.kernel.path.clone(),
        initrd: record.initrd.as_ref().map(|initrd| initrd.path.clone()),
        base: FileIdentity::of(&assets.rootfs, &record.rootfs.path)?,
        rootfs: record.rootfs.path.clone(),
        boot_args: record.boot_args.clone(),
        vcpu_count: record.vcpu_count,
        mem_size_mib: record.mem_size_mib,
        backend: record.backend,
        disk: DiskRecord::Isolated(record.disk.clone()),
        network: record.network,
        egress: record.egress.clone(),
        nested_virtualization: record.nested_virtualization,
        address: None,
        started: None,
        runtime: dirs.runtime.clone(),
    };
    if config.detached {
        create::keep_images(&record, dirs);
    }
    Ok(record)
}
