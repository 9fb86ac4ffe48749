//! [`Assets`]: what a virtual machine boots from, opened and looked at.

use std::fs::File;
use std::os::fd::{OwnedFd, RawFd};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::backend::Backend;
use crate::config::BootFile;
use crate::error::VmError;
use crate::id::VmId;
use crate::kernel::{Architecture, Kernel, KernelFormat, unpacked, with_pvh_entry};
use crate::places::VmDirs;
use crate::record::Record;
use crate::supervisor::{FIRST_FILE, Mode, Supervisor, SupervisorError, status};

/// What a machine boots from, open for reading. The supervisor and the VMM inherit the files, so
/// that what they use is what was verified, and is in use as long as they are there.
#[derive(Debug)]
pub(crate) struct Assets {
    pub(crate) kernel: Kernel,
    /// The program that runs commands in the guest.
    pub(crate) agent: &'static [u8],
    pub(crate) rootfs: Arc<File>,
    pub(crate) initrd: Option<Arc<File>>,
    kernel_file: Arc<File>,
    /// The image's own kernel, where the VMM boots what was made of it.
    image_kernel: Option<Arc<File>>,
}

/// How long the process that looked after a machine may take to go, once the machine has ended.
const LEAVE: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// The numbers under which a VMM has the files.
pub(crate) const KERNEL_FD: RawFd = FIRST_FILE;
pub(crate) const ROOTFS_FD: RawFd = FIRST_FILE + 1;

impl Assets {
    /// Opens the files, and refuses a kernel that the backend cannot boot here. `kernels` is where
    /// unpacked ones are kept.
    pub(crate) fn open(
        kernel: &BootFile,
        rootfs: &BootFile,
        initrd: Option<&BootFile>,
        backend: Backend,
        kernels: &Path,
    ) -> Result<Self, VmError> {
        let image_kernel = kernel.open()?;
        let mut what = Kernel::recognise(&image_kernel, &kernel.path)?;
        let mut made = None;
        match backend {
            Backend::Qemu => {
                what.for_qemu()?;
                if what.format == (KernelFormat::Elf { pvh: false }) {
                    made = Some(with_pvh_entry(&image_kernel, &kernel.path, kernels)?);
                }
            }
            Backend::Firecracker => {
                what.for_firecracker(Architecture::of_host().unwrap_or(Architecture::X86_64))?;
                if what.format == KernelFormat::BzImage {
                    let vmlinux = unpacked(&image_kernel, &kernel.path, kernels)?;
                    what = Kernel::recognise(&vmlinux, &kernel.path)?;
                    made = Some(vmlinux);
                }
            }
        }
        let agent = what.agent()?;
        let (kernel_file, image_kernel) = match made {
            Some(made) => (Arc::new(made), Some(image_kernel)),
            None => (image_kernel, None),
        };
        Ok(Self {
            kernel: what,
            agent,
            kernel_file,
            image_kernel,
            rootfs: rootfs.open()?,
            initrd: initrd.map(BootFile::open).transpose()?,
        })
    }

    /// The image's own kernel, whatever was made of it.
    pub(crate) fn image_kernel(&self) -> &File {
        self.image_kernel.as_ref().unwrap_or(&self.kernel_file)
    }

    /// Opens what a machine was made of, if its root file system is still the same.
    pub(crate) fn reopen(record: &Record, dirs: &VmDirs) -> Result<Self, VmError> {
        let initrd = record.initrd.as_ref().map(BootFile::at);
        let (kernel, rootfs) = (BootFile::at(&record.kernel), BootFile::at(&record.rootfs));
        let backend = Backend::of(record.backend);
        let assets = Self::open(&kernel, &rootfs, initrd.as_ref(), backend, &dirs.kernels())?;
        record.check_base(&assets.rootfs)?;
        Ok(assets)
    }

    /// Starts the process that looks after a machine, and gives it the files.
    pub(crate) fn supervise(
        &self,
        id: &VmId,
        dirs: &VmDirs,
        mode: Mode,
    ) -> Result<Supervisor, VmError> {
        let failed = |source| match source {
            SupervisorError::Exists { .. } if mode == Mode::Adopt => {
                VmError::NotOwner { id: id.to_string() }
            }
            SupervisorError::Exists { .. } => VmError::AlreadyExists { id: id.to_string() },
            source => VmError::Supervisor { id: id.to_string(), source },
        };
        let copy = |file: &File| {
            let copy = file.try_clone().map(OwnedFd::from);
            copy.map_err(|error| VmError::io(&dirs.state, "pass files on to", error))
        };
        // The supervisor's copies keep the image in use, whatever becomes of this process: an
        // image is in use where all of its files are.
        let mut files = vec![copy(&self.kernel_file)?, copy(&self.rootfs)?];
        for file in self.initrd.iter().chain(&self.image_kernel) {
            files.push(copy(file)?);
        }
        Supervisor::spawn(dirs, mode, files).map_err(failed)
    }

    /// Starts the process that looks after a machine that was made before and does not run. The
    /// one that ended it may still be on its way out: the machine has ended a moment before that.
    pub(crate) fn adopt(&self, id: &VmId, dirs: &VmDirs) -> Result<Supervisor, VmError> {
        let deadline = Instant::now() + LEAVE;
        loop {
            match self.supervise(id, dirs, Mode::Adopt) {
                Err(VmError::NotOwner { .. })
                    if Instant::now() < deadline && status(&dirs.state).vmm().is_none() =>
                {
                    thread::sleep(LOOK_AGAIN);
                }
                adopted => return adopted,
            }
        }
    }
}
