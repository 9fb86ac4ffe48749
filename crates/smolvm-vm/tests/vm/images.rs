//! The images that tests boot, and where the machines of a test lie.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use smolvm_testkit::skip;
use smolvm_vm::{VmConfig, Vms};

use super::backend;

/// An image that `cargo xtask images` has made.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    directory: PathBuf,
}

/// A directory for machines, which must be empty of them in the end.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) temp: tempfile::TempDir,
}

/// Debian's kernel, a busybox userland with an init of its own, an initrd.
pub(crate) const TINY: &str = "debian-tiny";
/// The same kernel, one static busybox and nothing else, an initrd.
pub(crate) const BARE: &str = "busybox-only";
/// Debian with systemd, as debootstrap leaves it; no initrd.
pub(crate) const SYSTEMD: &str = "debian-systemd";
/// Alpine with its own kernel, which unpacks no modules; no initrd.
pub(crate) const ALPINE: &str = "alpine";
/// A minimal Debian for arm64, and its kernel's drivers in an initrd.
pub(crate) const ARM64: &str = "debian-arm64";

impl Image {
    /// `None` where it is not there: the test says so and ends.
    pub(crate) fn find(name: &str) -> Option<Self> {
        let Some(images) = std::env::var_os("SMOLVM_TEST_IMAGES") else {
            skip("SMOLVM_TEST_IMAGES names no directory with images");
            return None;
        };
        let directory = Path::new(&images).join(name);
        if !directory.is_dir() {
            skip(&format!("there is no image {}", directory.display()));
            return None;
        }
        Some(Self { directory })
    }

    /// The same in another directory, to be changed.
    pub(crate) fn copy(&self, directory: &Path) -> Self {
        fs_err::create_dir(directory).unwrap();
        for file in [Some(self.kernel()), Some(self.rootfs()), self.initrd()].into_iter().flatten()
        {
            fs_err::copy(&file, directory.join(file.file_name().unwrap())).unwrap();
        }
        Self { directory: directory.to_owned() }
    }

    /// An image that lies in a cache.
    pub(crate) fn cached(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    pub(crate) fn kernel(&self) -> PathBuf {
        let cached = self.directory.join("vmlinux.bin");
        if cached.exists() { cached } else { self.directory.join("vmlinuz") }
    }

    pub(crate) fn rootfs(&self) -> PathBuf {
        self.directory.join("rootfs.ext4")
    }

    pub(crate) fn initrd(&self) -> Option<PathBuf> {
        Some(self.directory.join("initrd.img")).filter(|path| path.exists())
    }

    /// A machine of this image.
    pub(crate) fn config(&self, site: &Site) -> VmConfig {
        let config = VmConfig::new(self.kernel(), self.rootfs()).vms_dir(site.vms_dir());
        match self.initrd() {
            Some(initrd) => config.initrd(initrd),
            None => config,
        }
    }

    /// What its root file system holds.
    pub(crate) fn rootfs_digest(&self) -> String {
        smolvm_testkit::content::sha256_hex(&fs_err::read(self.rootfs()).unwrap())
    }
}

impl Site {
    pub(crate) fn new() -> Self {
        let site = Self { temp: tempfile::tempdir().unwrap() };
        if let Some(kernels) = std::env::var_os(backend::KERNELS) {
            std::fs::DirBuilder::new().mode(0o700).create(site.vms_dir()).unwrap();
            std::os::unix::fs::symlink(kernels, site.vms_dir().join(".kernels")).unwrap();
        }
        site
    }

    pub(crate) fn vms_dir(&self) -> PathBuf {
        self.temp.path().join("vms")
    }

    pub(crate) fn vms(&self) -> Vms {
        Vms::at(self.vms_dir()).unwrap()
    }

    /// A directory for sockets and locks of this site alone, for `XDG_RUNTIME_DIR`.
    pub(crate) fn runtime_dir(&self) -> PathBuf {
        let path = self.temp.path().join("run");
        fs_err::create_dir_all(&path).unwrap();
        path
    }

    /// What is in the directory for sockets, besides the slots of those that boot, which are free.
    pub(crate) fn sockets_left(&self) -> Vec<String> {
        let Ok(entries) = fs_err::read_dir(self.runtime_dir().join("smolvm")) else {
            return Vec::new();
        };
        let mut left = Vec::new();
        for entry in entries {
            let path = entry.unwrap().path();
            if !path.ends_with("boot-slots") {
                left.push(path.display().to_string());
                continue;
            }
            let slots = fs_err::read_dir(path).unwrap().map(|slot| slot.unwrap().path());
            let is_held = |path: &PathBuf| fs_err::File::open(path).unwrap().try_lock().is_err();
            left.extend(slots.filter(is_held).map(|path| format!("{} is locked", path.display())));
        }
        left
    }

    /// What is in the directory of machines, besides its lock and kernels for later boots.
    pub(crate) fn left(&self) -> Vec<String> {
        let entries = fs_err::read_dir(self.vms_dir()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name != ".lock" && name != ".kernels").collect()
    }
}
