//! Making a virtual machine: what it boots is opened and looked at, its supervisor makes its
//! directory, its disk is made.

use std::collections::HashSet;
use std::sync::Mutex;

use smolvm_image::CachedImage;

use crate::assets::Assets;
use crate::backend::Backend;
use crate::boot;
use crate::config::{BackendChoice, BootFile, DiskMode, VmConfig};
use crate::disk::{self, Base, Capabilities, Request};
use crate::error::VmError;
use crate::id::VmId;
use crate::kernel::{Kernel, KernelError};
use crate::network;
use crate::places::{Places, VmDirs};
use crate::record::{DiskRecord, EgressRecord, FileIdentity, Record, now};
use crate::supervisor::{self, Mode};
use crate::vm::{Machine, SmolVm};

/// Makes a machine of a configuration.
pub(crate) fn create(config: VmConfig) -> Result<SmolVm, VmError> {
    let config = config.complete()?;
    let places = Places::make(config.vms_dir.as_deref())?;
    supervisor::sweep(places.vms());
    network::sweep();
    let id = config.id.clone().unwrap_or_else(VmId::make_up);
    let dirs = places.of(&id);
    let (backend, assets) = open(&config, &dirs)?;

    let mode = if config.detached { Mode::Detached } else { Mode::Owned };
    let supervisor = assets.supervise(&id, &dirs, mode)?;
    match furnish(&config, &id, &dirs, backend, &assets) {
        Ok(record) => Ok(SmolVm {
            id,
            dirs,
            backend,
            env: config.env.into_iter().collect(),
            machine: Mutex::new(Machine {
                record,
                supervisor: Some(supervisor),
                assets: Some(assets),
            }),
            session: Mutex::new(None),
        }),
        Err(error) => {
            // An owned one would go by itself. What failed first is what is told.
            let _ = supervisor.delete();
            Err(error)
        }
    }
}

/// Chooses the backend, and opens what it boots. One that was not asked for by name is not taken
/// where it cannot boot that kernel.
fn open(config: &VmConfig, dirs: &VmDirs) -> Result<(Backend, Assets), VmError> {
    let backend = Backend::choose(config)?;
    let open = |backend| {
        let VmConfig { kernel, rootfs, initrd, .. } = config;
        Assets::open(kernel, rootfs, initrd.as_ref(), backend, &dirs.kernels())
    };
    match open(backend) {
        Err(VmError::Kernel(error))
            if backend != Backend::Qemu && config.backend == BackendChoice::Auto =>
        {
            log::debug!("QEMU is taken: {error}");
            Ok((Backend::Qemu, open(Backend::Qemu)?))
        }
        assets => Ok((backend, assets?)),
    }
}

/// What can be done with a disk. One that the agent is put into is a file system of its own.
fn capabilities(backend: Backend, kernel: &Kernel) -> Capabilities {
    let on_disk = kernel.starts_from_disk();
    // Whether the guest's kernel has overlayfs shows when it boots.
    Capabilities { qcow2: backend == Backend::Qemu && !on_disk, overlayfs: !on_disk }
}

/// Fills the directory of a machine: its disk, and the record last, since a machine without one is
/// not there for others.
fn furnish(
    config: &VmConfig,
    id: &VmId,
    dirs: &VmDirs,
    backend: Backend,
    assets: &Assets,
) -> Result<Record, VmError> {
    let rootfs = config.rootfs.absolute()?;
    let disk = match config.disk_mode {
        DiskMode::Isolated => {
            let base = Base { file: &assets.rootfs, path: &rootfs };
            let request = Request {
                size: config.disk_size_mib.map(|mebibytes| mebibytes << 20),
                isolation: config.isolation,
                capabilities: capabilities(backend, &assets.kernel),
            };
            let disk = disk::isolate(base, &dirs.state, &request)?;
            if assets.kernel.starts_from_disk() {
                let disk = disk.path(&dirs.state);
                disk::add_agent(&disk, assets.agent, boot::ON_DISK)?;
            }
            DiskRecord::Isolated(disk)
        }
        DiskMode::Shared => {
            if assets.kernel.starts_from_disk() {
                return Err(KernelError::NoInitrd { path: assets.kernel.path.clone() }.into());
            }
            // Refused here where it cannot be written to, or must not be.
            disk::share(&rootfs, config.rootfs.is_cached())?;
            DiskRecord::Shared
        }
    };
    let record = Record {
        version: Record::VERSION,
        id: id.clone(),
        created: now(),
        detached: config.detached,
        kernel: config.kernel.absolute()?,
        initrd: config.initrd.as_ref().map(BootFile::absolute).transpose()?,
        base: FileIdentity::of(&assets.rootfs, &rootfs)?,
        rootfs,
        boot_args: config.boot_args.clone(),
        vcpu_count: config.vcpu_count,
        mem_size_mib: config.mem_size_mib,
        backend: backend.into(),
        disk,
        network: config.network,
        egress: EgressRecord(config.egress.clone()),
        nested_virtualization: config.nested_virtualization,
        address: network::address(config.network.into()),
        started: None,
        runtime: dirs.runtime.clone(),
    };
    if config.detached {
        keep_images(&record, dirs);
    }
    record.write(dirs)?;
    Ok(record)
}

/// Keeps the cached images of a machine that stays, also while nothing of it runs.
pub(crate) fn keep_images(record: &Record, dirs: &VmDirs) {
    let files = [&record.kernel, &record.rootfs].into_iter().chain(&record.initrd);
    let images: HashSet<CachedImage> =
        files.filter_map(|file| CachedImage::of_file(file)).collect();
    for image in images {
        let reason = match image.keep_for(&dirs.state) {
            Ok(true) => continue,
            Ok(false) => "its cache cannot be written to".to_owned(),
            Err(error) => error.to_string(),
        };
        log::warn!(
            "the image '{}' can be removed while the VM '{}' is stopped: {reason}",
            image.name(),
            record.id
        );
    }
}
