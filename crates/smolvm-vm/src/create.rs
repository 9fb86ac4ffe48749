//! Making a virtual machine: what it boots is opened and looked at, its supervisor makes its
//! directory, its disk is made.

use std::collections::HashSet;
use std::sync::Mutex;
use std::time::SystemTime;

use smolvm_image::CachedImage;

use crate::assets::Assets;
use crate::config::{BootFile, DiskMode, VmConfig};
use crate::disk::{self, Base, Capabilities, Request};
use crate::error::VmError;
use crate::id::VmId;
use crate::network;
use crate::places::{Places, VmDirs};
use crate::record::{DiskRecord, EgressRecord, FileIdentity, Record};
use crate::supervisor::{self, Mode};
use crate::vm::{Machine, SmolVm};

/// Makes a machine of a configuration.
pub(crate) fn create(config: VmConfig) -> Result<SmolVm, VmError> {
    let config = config.complete()?;
    let places = Places::make(config.vms_dir.as_deref())?;
    supervisor::sweep(places.vms());
    network::sweep();
    let assets = Assets::open(&config.kernel, &config.rootfs, config.initrd.as_ref())?;
    let id = config.id.clone().unwrap_or_else(VmId::make_up);
    let dirs = places.of(&id);

    let mode = if config.detached { Mode::Detached } else { Mode::Owned };
    let supervisor = assets.supervise(&id, &dirs, mode)?;
    match furnish(&config, &id, &dirs, &assets) {
        Ok(record) => Ok(SmolVm {
            id,
            dirs,
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

/// Fills the directory of a machine: its disk, and the record last, since a machine without one is
/// not there for others.
fn furnish(
    config: &VmConfig,
    id: &VmId,
    dirs: &VmDirs,
    assets: &Assets,
) -> Result<Record, VmError> {
    let rootfs = config.rootfs.absolute()?;
    let disk = match config.disk_mode {
        DiskMode::Isolated => {
            let base = Base { file: &assets.rootfs, path: &rootfs };
            let request = Request {
                size: config.disk_size_mib.map(|mebibytes| mebibytes << 20),
                isolation: config.isolation,
                // QEMU has the one; whether the guest's kernel has the other shows when it boots.
                capabilities: Capabilities { qcow2: true, overlayfs: true },
            };
            DiskRecord::Isolated(disk::isolate(base, &dirs.state, &request)?)
        }
        DiskMode::Shared => {
            // Refused here where it cannot be written to, or must not be.
            disk::share(&rootfs, config.rootfs.is_cached())?;
            DiskRecord::Shared
        }
    };
    let created = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let record = Record {
        version: Record::VERSION,
        id: id.clone(),
        created: created.as_secs(),
        detached: config.detached,
        kernel: config.kernel.absolute()?,
        initrd: config.initrd.as_ref().map(BootFile::absolute).transpose()?,
        base: FileIdentity::of(&assets.rootfs, &rootfs)?,
        rootfs,
        boot_args: config.boot_args.clone(),
        vcpu_count: config.vcpu_count,
        mem_size_mib: config.mem_size_mib,
        backend: config.backend,
        disk,
        network: config.network,
        egress: EgressRecord(config.egress.clone()),
        address: network::address(config.network.into()),
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
