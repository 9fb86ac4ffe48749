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
    /// Whether it boots a kernel.
    pub(crate) has_kernel: bool,
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

/// How many files a VMM may have open; it has a few dozen.
pub(crate) const OPEN_FILES: u64 = 2048;

/// The bytes that a qcow2 file may have besides those of the guest's disk and one for 256 of them.
const DISK_METADATA: u64 = 64 << 20;

static USER_NOTICE: AtomicBool = AtomicBool::new(false);

impl Endowment<'_> {
    /// What the supervisor is told of QEMU.
    pub(crate) fn for_qemu(&self) -> Vec<Setting> {
        let mut settings = [self.files(), Self::bounds(self.longest_disk())].concat();
        settings.extend(self.network().into_iter().chain(self.cgroup()));
        settings.push(file(QMP_FD, Access::Listen, &self.dirs.qmp_socket()));
        settings.extend(self.user());
        settings
    }

    /// Its own files.
    pub(crate) fn files(&self) -> Vec<Setting> {
        let mut settings = vec![file(DISK_FD, Access::Write, &self.disk())];
        if self.has_initrd {
            settings.push(file(INITRD_FD, Access::Copy, &self.dirs.initrd()));
        }
        settings
    }

    /// The limits of a process that writes no longer files than that, in bytes.
    pub(crate) fn bounds(longest_file: u64) -> Vec<Setting> {
        vec![Setting::FileSize(longest_file), Setting::OpenFiles(OPEN_FILES)]
    }

    /// The network namespace that it is in, and the cgroup, for a VMM that opens its device itself.
    pub(crate) fn place(&self) -> Vec<Setting> {
        self.namespace().into_iter().chain(self.cgroup()).collect()
    }

    /// The network namespace that it is in.
    pub(crate) fn namespace(&self) -> Option<Setting> {
        self.device.and_then(Device::namespace)
    }

    /// The file that the guest writes to.
    fn disk(&self) -> PathBuf {
        match &self.record.disk {
            DiskRecord::Isolated(disk) => disk.path(&self.dirs.state),
            DiskRecord::Shared => self.record.rootfs.clone(),
        }
    }

    /// The most bytes that the file may have that the guest writes to.
    pub(crate) fn longest_disk(&self) -> u64 {
        let length = fs_err::metadata(self.disk()).map_or(0, |metadata| metadata.len());
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
                self.namespace().into_iter().chain([tap]).collect()
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
                let kernel = self.has_kernel.then(|| file(KERNEL_FD, Access::Copy, &kernel));
                kernel.into_iter().chain([user.setting()]).collect()
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
