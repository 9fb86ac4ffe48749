//! [`VmConfig`]: what a virtual machine is to be.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use smolvm_image::{CachedImage, LocalImage, OpenImage};

use crate::disk::Isolation;
use crate::error::VmError;
use crate::id::VmId;
use crate::network::{self, Egress};

/// What a virtual machine is to be: its image, its size and what it may reach.
///
/// ```no_run
/// use smolvm_vm::{NetworkMode, Vm, VmConfig};
///
/// let config = VmConfig::new("vmlinux.bin", "rootfs.ext4")
///     .id("hello-vm")?
///     .mem_size_mib(256)
///     .network(NetworkMode::None);
/// let vm = Vm::boot(config)?;
/// assert_eq!(vm.run("echo hi")?.stdout(), "hi\n");
/// # Ok::<(), smolvm_vm::VmError>(())
/// ```
#[derive(Debug, Clone)]
#[must_use = "a configuration does nothing before a VM is made of it"]
pub struct VmConfig {
    pub(crate) id: Option<VmId>,
    pub(crate) kernel: BootFile,
    pub(crate) rootfs: BootFile,
    pub(crate) initrd: Option<BootFile>,
    pub(crate) boot_args: Option<String>,
    pub(crate) vcpu_count: Option<u32>,
    pub(crate) mem_size_mib: u32,
    pub(crate) backend: BackendChoice,
    pub(crate) disk_mode: DiskMode,
    pub(crate) isolation: Option<Isolation>,
    pub(crate) disk_size_mib: Option<u64>,
    pub(crate) network: NetworkMode,
    pub(crate) egress: Egress,
    pub(crate) nested_virtualization: bool,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) detached: bool,
    pub(crate) vms_dir: Option<PathBuf>,
}

/// A file to boot from: its path, and the descriptor that was verified, where there is one.
#[derive(Debug, Clone)]
pub(crate) struct BootFile {
    pub(crate) path: PathBuf,
    pub(crate) file: Option<Arc<File>>,
}

/// Which program runs the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum BackendChoice {
    /// Firecracker where it is there, KVM works, and it can have what the machine is to have, its
    /// network too; else QEMU.
    #[default]
    Auto,
    /// QEMU.
    Qemu,
    /// Firecracker: a small VMM that runs guests by KVM alone. As root or where user namespaces may
    /// be made, it has the network `user`; as root, `tap`.
    Firecracker,
}

/// What becomes of what a guest writes to its disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum DiskMode {
    /// It goes to a disk of the machine's own, and is gone with it. The file is never written to.
    #[default]
    Isolated,
    /// It goes to the file itself. Refused for a file of an image cache.
    Shared,
}

/// What the guest can reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum NetworkMode {
    /// `User`.
    #[default]
    Auto,
    /// What this user can reach, but not this host itself: neither its loopback nor link-local or
    /// metadata addresses. Needs no privileges and never touches the host's firewall.
    User,
    /// The same, through a tap device of the machine's own and the kernel of this host, which
    /// reaches the guest by the address that [`SmolVm::get_ip`](crate::SmolVm::get_ip) tells.
    /// Needs root, the packages `nftables` and `iproute2`, and a host that passes packets on
    /// (`sysctl net.ipv4.ip_forward=1`).
    Tap,
    /// Nothing.
    None,
}

impl fmt::Display for BackendChoice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Auto => "auto",
            Self::Qemu => "qemu",
            Self::Firecracker => "firecracker",
        })
    }
}

impl From<NetworkMode> for network::Mode {
    fn from(mode: NetworkMode) -> Self {
        match mode {
            NetworkMode::Auto | NetworkMode::User => Self::User,
            NetworkMode::Tap => Self::Tap,
            NetworkMode::None => Self::None,
        }
    }
}

impl VmConfig {
    /// The memory that a machine has where nothing else is said, in MiB.
    pub const DEFAULT_MEM_SIZE_MIB: u32 = 512;

    /// A machine that boots `kernel` with the disk `rootfs`, both existing files.
    ///
    /// When the kernel is a cached image's, the image's initrd and boot arguments come with it,
    /// so that any cached image boots by two paths.
    pub fn new(kernel: impl Into<PathBuf>, rootfs: impl Into<PathBuf>) -> Self {
        Self {
            id: None,
            kernel: BootFile::at(kernel),
            rootfs: BootFile::at(rootfs),
            initrd: None,
            boot_args: None,
            vcpu_count: None,
            mem_size_mib: Self::DEFAULT_MEM_SIZE_MIB,
            backend: BackendChoice::Auto,
            disk_mode: DiskMode::Isolated,
            isolation: None,
            disk_size_mib: None,
            network: NetworkMode::Auto,
            egress: Egress::All,
            nested_virtualization: false,
            env: BTreeMap::new(),
            detached: false,
            vms_dir: None,
        }
    }

    /// A machine that boots an image from the very files that were verified.
    ///
    /// ```no_run
    /// use smolvm_image::{FetchOptions, ImageManager};
    /// use smolvm_vm::{Vm, VmConfig};
    ///
    /// let image = ImageManager::new()?.open_image("hello", &FetchOptions::default())?;
    /// let vm = Vm::boot(VmConfig::from_image(&image)?)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`VmError::Io`] where the process can open no more files.
    pub fn from_image(image: &OpenImage) -> Result<Self, VmError> {
        let mut config = Self::from(&**image);
        config.kernel.keep(image.kernel())?;
        config.rootfs.keep(image.rootfs())?;
        if let (Some(initrd), Some(file)) = (&mut config.initrd, image.initrd()) {
            initrd.keep(file)?;
        }
        Ok(config)
    }

    /// The name of the machine; one is made up where none is given.
    ///
    /// # Errors
    /// [`VmError::Id`] where it is none.
    pub fn id(mut self, id: &str) -> Result<Self, VmError> {
        self.id = Some(id.parse()?);
        Ok(self)
    }

    /// The initial RAM disk of the image. Its files (kernel modules, above all) are there when the
    /// machine boots; its own `/init` is not run.
    pub fn initrd(mut self, path: impl Into<PathBuf>) -> Self {
        self.initrd = Some(BootFile::at(path));
        self
    }

    /// What the kernel is told besides what the backend and the agent need.
    pub fn boot_args(mut self, arguments: impl Into<String>) -> Self {
        self.boot_args = Some(arguments.into());
        self
    }

    /// The number of virtual processors, 1 to 32. Left out it is 2, but 1 where processors are
    /// emulated: a second one would slow the first one down.
    pub fn vcpu_count(mut self, count: u32) -> Self {
        self.vcpu_count = Some(count);
        self
    }

    /// The memory in MiB, 128 to 16384; 512 where nothing else is said.
    pub fn mem_size_mib(mut self, mebibytes: u32) -> Self {
        self.mem_size_mib = mebibytes;
        self
    }

    /// Which program runs the machine.
    pub fn backend(mut self, backend: BackendChoice) -> Self {
        self.backend = backend;
        self
    }

    /// What becomes of what the guest writes.
    pub fn disk_mode(mut self, mode: DiskMode) -> Self {
        self.disk_mode = mode;
        self
    }

    /// How the disk is isolated, and an error where that is not possible here.
    pub fn isolation(mut self, isolation: Isolation) -> Self {
        self.isolation = Some(isolation);
        self
    }

    /// The size of the disk in MiB, not less than that of the root file system, which is grown to
    /// it. Left out it is that of the file.
    pub fn disk_size_mib(mut self, mebibytes: u64) -> Self {
        self.disk_size_mib = Some(mebibytes);
        self
    }

    /// What the guest can reach.
    pub fn network(mut self, mode: NetworkMode) -> Self {
        self.network = mode;
        self
    }

    /// What the guest may reach through its network. Left out it is all but this host, link-local
    /// addresses and those at which clouds serve metadata, which no guest reaches.
    ///
    /// ```no_run
    /// use smolvm_vm::{Egress, Vm, VmConfig};
    ///
    /// let mirror = ["deb.debian.org:80".parse()?, "10.20.0.0/16".parse()?];
    /// let config = VmConfig::new("vmlinux.bin", "rootfs.ext4").egress(Egress::Allow(mirror.into()));
    /// Vm::boot(config)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn egress(mut self, egress: Egress) -> Self {
        self.egress = egress;
        self
    }

    /// Whether the guest may run virtual machines by KVM itself, as far as this host can have it
    /// do so. On QEMU alone; emulated guests have AMD's extensions, and are slow at it.
    pub fn nested_virtualization(mut self, nested: bool) -> Self {
        self.nested_virtualization = nested;
        self
    }

    /// A variable in the environment of every command that this program runs in the machine. It
    /// is not written to any disk: other programs do not have it.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// Whether the machine outlives this program. Then it is only ended by name.
    pub fn detached(mut self, detached: bool) -> Self {
        self.detached = detached;
        self
    }

    /// The directory of all machines, instead of `~/.smolvm/vms`.
    pub fn vms_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.vms_dir = Some(directory.into());
        self
    }

    /// Takes what the image of the kernel has and was not given, and checks all values.
    pub(crate) fn complete(mut self) -> Result<Self, VmError> {
        if self.initrd.is_none()
            && let Some(image) = LocalImage::of_kernel(&self.kernel.path)
        {
            self.initrd = image.initrd_path.map(BootFile::at);
            self.boot_args = self.boot_args.or(image.boot_args);
        }
        self.check_values()?;
        Ok(self)
    }

    /// Whether a machine can be made of it, as far as that shows without making one: the values
    /// are in their ranges, and the files are there.
    ///
    /// # Errors
    /// [`VmError::Value`], [`VmError::NotAFile`], or [`VmError::Io`] for a file that is not there.
    pub fn check(&self) -> Result<(), VmError> {
        self.check_values()?;
        [Some(&self.kernel), Some(&self.rootfs), self.initrd.as_ref()]
            .into_iter()
            .flatten()
            .try_for_each(BootFile::check)
    }

    fn check_values(&self) -> Result<(), VmError> {
        let range = |what, value: u64, from: u64, to: u64| {
            if (from..=to).contains(&value) {
                return Ok(());
            }
            Err(VmError::Value {
                what,
                value: value.to_string(),
                wanted: format!("{from} to {to}"),
            })
        };
        if let Some(count) = self.vcpu_count {
            range("vcpu_count", count.into(), 1, 32)?;
        }
        range("mem_size_mib", self.mem_size_mib.into(), 128, 16384)?;
        if let Some(size) = self.disk_size_mib {
            range("disk_size_mib", size, 1, 64 << 20)?;
        }
        check_env(&self.env)?;
        if let Some(arguments) =
            self.boot_args.as_ref().filter(|text| text.contains(char::is_control))
        {
            let wanted = "one line without control characters".to_owned();
            return Err(VmError::Value { what: "boot_args", value: arguments.clone(), wanted });
        }
        Ok(())
    }
}

/// Refuses what cannot be a variable of an environment.
pub(crate) fn check_env(env: &BTreeMap<String, String>) -> Result<(), VmError> {
    for (name, value) in env {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            let wanted = "a name without = and NUL, a value without NUL".to_owned();
            return Err(VmError::Value { what: "env", value: name.clone(), wanted });
        }
    }
    Ok(())
}

impl From<&LocalImage> for VmConfig {
    /// A machine that boots an image by the paths of its files.
    fn from(image: &LocalImage) -> Self {
        let mut config = Self::new(&image.kernel_path, &image.rootfs_path);
        config.initrd = image.initrd_path.as_ref().map(BootFile::at);
        config.boot_args.clone_from(&image.boot_args);
        config
    }
}

impl BootFile {
    pub(crate) fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), file: None }
    }

    /// Holds on to an open file, so that the path is not opened again.
    fn keep(&mut self, file: &File) -> Result<(), VmError> {
        let kept = file.try_clone().map_err(|error| VmError::io(&self.path, "keep", error))?;
        self.file = Some(Arc::new(kept));
        Ok(())
    }

    /// Whether there is a regular file.
    fn check(&self) -> Result<(), VmError> {
        let metadata =
            self.path.metadata().map_err(|error| VmError::io(&self.path, "look at", error))?;
        if metadata.is_file() {
            return Ok(());
        }
        Err(VmError::NotAFile { path: self.path.clone() })
    }

    /// The file, opened for reading where it is not yet. One of an image cache is in use from now
    /// on, as long as anybody has it.
    pub(crate) fn open(&self) -> Result<Arc<File>, VmError> {
        if let Some(file) = &self.file {
            return Ok(Arc::clone(file));
        }
        loop {
            let file = self.open_path()?;
            match CachedImage::of_file(&self.path) {
                // Somebody has removed or replaced it at this moment.
                Some(image) if !image.hold(&file, &self.path) => {}
                _ => return Ok(Arc::new(file)),
            }
        }
    }

    fn open_path(&self) -> Result<File, VmError> {
        let file = fs_err::File::open(&self.path)
            .map_err(|error| VmError::io(&self.path, "open", error))?
            .into_file();
        let is_file = file.metadata().is_ok_and(|metadata| metadata.is_file());
        if !is_file {
            return Err(VmError::NotAFile { path: self.path.clone() });
        }
        Ok(file)
    }

    /// The path, absolute.
    pub(crate) fn absolute(&self) -> Result<PathBuf, VmError> {
        std::path::absolute(&self.path).map_err(|error| VmError::io(&self.path, "find", error))
    }

    /// Whether it lies where an image cache keeps its files: beside a record.
    pub(crate) fn is_cached(&self) -> bool {
        self.path.parent().unwrap_or(Path::new("")).join("image.json").exists()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_out_of_range_are_refused_by_name() {
        let config = || VmConfig::new("k", "r");
        for (config, what) in [
            (config().vcpu_count(0), "vcpu_count"),
            (config().vcpu_count(33), "vcpu_count"),
            (config().mem_size_mib(127), "mem_size_mib"),
            (config().mem_size_mib(16385), "mem_size_mib"),
            (config().env("A=B", "x"), "env"),
            (config().boot_args("a\nb"), "boot_args"),
        ] {
            let error = config.complete().unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        }
        assert!(config().vcpu_count(32).mem_size_mib(16384).complete().is_ok());
    }
}
