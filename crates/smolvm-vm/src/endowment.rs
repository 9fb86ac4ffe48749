//! [`Endowment`]: what a VMM is started with besides its arguments. It opens nothing by itself:
//! where root starts it, it is another user, who could not.

use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use crate::accel::Accelerator;
use crate::assets::{KERNEL_FD, ROOTFS_FD};
use crate::boot::tell_once;
use crate::cgroup::Cgroups;
use crate::network::{Device, Uplink};
use crate::places::VmDirs;
use crate::privileges::VmmUser;
use crate::record::{DiskRecord, Record};
use crate::supervisor::{Access, Setting};

/// A machine, as far as it decides what its VMM is started with.
#[derive(Debug)]
pub(crate) struct Endowment<'a> {
    pub(crate) record: &'a Record,
    pub(crate) dirs: &'a VmDirs,
    /// Whether it starts with an initrd.
    pub(crate) has_initrd: bool,
    pub(crate) accelerator: Accelerator,
    pub(crate) vcpu_count: u32,
    pub(crate) device: Option<&'a Device>,
}

/// The numbers of descriptors in the VMM besides those of the assets.
pub(crate) const DISK_FD: RawFd = ROOTFS_FD + 1;
pub(crate) const INITRD_FD: RawFd = ROOTFS_FD + 2;
pub(crate) const QMP_FD: RawFd = ROOTFS_FD + 3;
pub(crate) const NETWORK_FD: RawFd = ROOTFS_FD + 4;

/// The bytes that a qcow2 file may have besides those of the guest's disk and one for 256 of them.
const DISK_METADATA: u64 = 64 << 20;

static USER_NOTICE: AtomicBool = AtomicBool::new(false);

impl Endowment<'_> {
    /// What the supervisor is told.
    pub(crate) fn settings(&self) -> Vec<Setting> {
        let disk = self.disk();
        let mut settings = vec![
            file(DISK_FD, Access::Write, &disk),
            file(QMP_FD, Access::Listen, &self.dirs.qmp_socket()),
            Setting::FileSize(self.longest_file(&disk)),
        ];
        if self.has_initrd {
            settings.push(file(INITRD_FD, Access::Copy, &self.dirs.initrd()));
        }
        settings.extend(self.network());
        settings.extend(self.cgroup());
        settings.extend(self.user());
        settings
    }

    /// The file that the guest writes to.
    fn disk(&self) -> PathBuf {
        match &self.record.disk {
            DiskRecord::Isolated(disk) => disk.path(&self.dirs.state),
            DiskRecord::Shared => self.record.rootfs.clone(),
        }
    }

    fn longest_file(&self, disk: &Path) -> u64 {
        let length = fs_err::metadata(disk).map_or(0, |metadata| metadata.len());
        let size = match &self.record.disk {
            DiskRecord::Isolated(disk) => length.max(disk.size),
            DiskRecord::Shared => length,
        };
        size + size / 256 + DISK_METADATA
    }

    fn network(&self) -> Vec<Setting> {
        match self.device.map(|device| &device.uplink) {
            Some(Uplink::Tap { name }) => {
                let tap = Setting::Tap { number: NETWORK_FD, name: (*name).to_owned() };
                self.device.and_then(Device::namespace).into_iter().chain([tap]).collect()
            }
            Some(Uplink::Filter { socket }) => vec![file(NETWORK_FD, Access::Connect, socket)],
            Some(Uplink::Restricted) | None => Vec::new(),
        }
    }

    fn cgroup(&self) -> Option<Setting> {
        let (vcpus, memory) = (self.vcpu_count, self.record.mem_size_mib);
        Cgroups::make()
            .map(|cgroups| cgroups.setting(self.dirs, self.accelerator, vcpus, memory))
            .inspect_err(|why| log::debug!("the VM '{}' has no cgroup: {why}", self.record.id))
            .ok()
    }

    fn user(&self) -> Vec<Setting> {
        match VmmUser::of(self.dirs, self.accelerator) {
            Ok(None) => Vec::new(),
            // Another user cannot open what is root's, not even by its descriptor.
            Ok(Some(user)) => {
                let kernel = PathBuf::from(format!("/proc/self/fd/{KERNEL_FD}"));
                vec![file(KERNEL_FD, Access::Copy, &kernel), user.setting()]
            }
            Err(why) => {
                tell_once(&USER_NOTICE, Some(&format!("QEMU runs as root: {why}")));
                Vec::new()
            }
        }
    }
}

/// A descriptor for the VMM.
fn file(number: RawFd, access: Access, path: &Path) -> Setting {
    Setting::File { number, access, path: path.to_owned() }
}
