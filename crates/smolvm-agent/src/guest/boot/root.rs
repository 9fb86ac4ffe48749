//! Mounts the root file system, with a place for all that the guest writes.

use std::fs::{self, File};
use std::io::{self, Seek as _, SeekFrom};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::config::Config;
use super::console;
use super::devices;
use super::drivers::{Driver, Drivers, FileSystems};
use super::error::BootError;
use super::superblock::{Ext4Size, Kind};
use crate::sys::mount::{self, Flags};

/// Where the root file system is mounted before it is entered.
const ROOT: &str = "/smolvm/root";
/// Where what is only read is mounted below an overlay.
const LOWER: &str = "/smolvm/lower";
/// Where what the guest writes is kept for an overlay.
const SCRATCH: &str = "/smolvm/scratch";

const OVERLAY: Driver =
    Driver { module: "overlay", purpose: "an overlay, which keeps what the guest writes apart" };

/// How long a disk may take to show up once its driver is loaded.
const DISK_DEADLINE: Duration = Duration::from_secs(5);

/// A disk with a file system.
#[derive(Debug)]
struct Disk {
    device: PathBuf,
    /// What the superblock says; the kernel may know kinds that the agent does not.
    kind: Option<Kind>,
}

/// Mounts the root file system so that it can be written to. Where it is.
pub(super) fn mount(config: &Config, drivers: &mut Drivers) -> Result<PathBuf, BootError> {
    let root = Disk::find(&config.root, drivers)?;
    if let Some(scratch) = &config.scratch {
        Disk::find(scratch, drivers)?.mount(SCRATCH, Flags::NONE, "")?;
        root.overlay(drivers)?;
    } else if root.mount_for_writing()? {
        if config.grow {
            root.grow(Path::new(ROOT))?;
        }
    } else {
        console::note("the root file system can only be read; what the guest writes is in memory");
        attach(Path::new("tmpfs"), SCRATCH, "tmpfs", Flags::NONE, "mode=0755")?;
        root.overlay(drivers)?;
    }
    Ok(ROOT.into())
}

/// Takes over the root file system that the kernel has mounted and started the agent from.
pub(super) fn adopt(config: &Config, drivers: &mut Drivers) -> Result<(), BootError> {
    if config.grow {
        Disk::find(&config.root, drivers)?.grow(Path::new("/"))?;
    }
    Ok(())
}

impl Disk {
    fn find(device: &Path, drivers: &mut Drivers) -> Result<Self, BootError> {
        if !devices::wait_for(device, DISK_DEADLINE) {
            let seen = devices::disks(Path::new(devices::SYSFS));
            return Err(BootError::Device { path: device.to_owned(), seen });
        }
        let kind = File::open(device).and_then(|mut device| Kind::probe(&mut device));
        let kind = kind.map_err(|error| BootError::Read(device.to_owned(), error))?;
        if let Some(kind) = kind {
            let driver = Driver { module: kind.name(), purpose: "the file system of the disk" };
            drivers.load_file_system(driver)?;
        }
        Ok(Self { device: device.to_owned(), kind })
    }

    /// Mounts it at [`ROOT`], if it can be written to; whether it can.
    fn mount_for_writing(&self) -> Result<bool, BootError> {
        if self.kind.is_some_and(Kind::is_read_only) {
            return Ok(false);
        }
        match self.mount(ROOT, Flags::NONE, "") {
            Err(BootError::Mount { error, .. }) if is_read_only(&error) => Ok(false),
            result => result.map(|()| true),
        }
    }

    fn mount(&self, target: &str, flags: Flags, options: &str) -> Result<(), BootError> {
        if let Some(kind) = self.kind {
            return attach(&self.device, target, kind.name(), flags, options);
        }
        // As the kernel does for a root that it mounts itself.
        let known = FileSystems::now();
        let mut kinds = known.on_devices();
        if kinds.any(|kind| attach(&self.device, target, kind, flags, options).is_ok()) {
            Ok(())
        } else {
            Err(BootError::FileSystem(self.device.clone()))
        }
    }

    /// Mounts it to be read at [`LOWER`], and at [`ROOT`] an overlay of it and [`SCRATCH`].
    fn overlay(&self, drivers: &mut Drivers) -> Result<(), BootError> {
        drivers.load_file_system(OVERLAY)?;
        self.mount_read_only(LOWER)?;
        mount_overlay().map_err(|error| BootError::Mount {
            what: format!("an overlay of {}", self.device.display()),
            target: ROOT.into(),
            error,
        })?;
        for layer in [LOWER, SCRATCH] {
            // The overlay holds on to its layers. Nobody else is to change them.
            if let Err(error) = mount::detach(Path::new(layer)) {
                console::note(format_args!("cannot hide {layer}: {error}"));
            }
        }
        Ok(())
    }

    fn mount_read_only(&self, target: &str) -> Result<(), BootError> {
        match self.mount(target, Flags::READ_ONLY, "") {
            // It was not unmounted cleanly, and its journal cannot be replayed on a device that can
            // only be read. It is no worse than after a power cut.
            Err(BootError::Mount { error, .. }) if is_read_only(&error) => {
                self.mount(target, Flags::READ_ONLY, "norecovery")
            }
            result => result,
        }
    }

    /// Has the file system, mounted at `root`, take up the whole device.
    fn grow(&self, root: &Path) -> Result<(), BootError> {
        if self.kind != Some(Kind::Ext4) {
            let kind = self.kind.map_or("of another kind", Kind::name).to_owned();
            return Err(BootError::CannotGrow { device: self.device.clone(), kind });
        }
        let grow = || {
            let mut device = File::open(&self.device)?;
            let size = Ext4Size::read(&mut device)?;
            let blocks = device.seek(SeekFrom::End(0))? / size.block_size;
            if blocks <= size.blocks {
                return Ok(());
            }
            mount::resize_ext4(&File::open(root)?, blocks)
        };
        grow().map_err(|error| BootError::Grow { device: self.device.clone(), error })
    }
}

/// Mounts the overlay of [`LOWER`] and [`SCRATCH`] at [`ROOT`].
fn mount_overlay() -> io::Result<()> {
    let scratch = Path::new(SCRATCH);
    let (upper, work) = (scratch.join("upper"), scratch.join("work"));
    for directory in [&upper, &work, Path::new(ROOT)] {
        fs::create_dir_all(directory)?;
    }
    // The root directory of an overlay is the upper one.
    let lower = fs::metadata(LOWER)?;
    chown(&upper, Some(lower.uid()), Some(lower.gid()))?;
    fs::set_permissions(&upper, fs::Permissions::from_mode(lower.mode() & 0o7777))?;

    let layers =
        format!("lowerdir={LOWER},upperdir={},workdir={}", upper.display(), work.display());
    // With it, directories can be renamed as anywhere else; kernels before 4.10 lack it.
    let renaming = format!("{layers},redirect_dir=on");
    let attach = |options: &str| {
        mount::attach(Path::new("overlay"), Path::new(ROOT), "overlay", Flags::NONE, options)
    };
    attach(&renaming).or_else(|_| attach(&layers))
}

/// Mounts a file system at a directory of the initial RAM disk, which is made for it.
fn attach(
    source: &Path,
    target: &str,
    kind: &str,
    flags: Flags,
    options: &str,
) -> Result<(), BootError> {
    let mounted = fs::create_dir_all(target)
        .and_then(|()| mount::attach(source, Path::new(target), kind, flags, options));
    mounted.map_err(|error| BootError::Mount {
        what: format!("{} ({kind})", source.display()),
        target: target.into(),
        error,
    })
}

/// Whether writing is what was refused.
fn is_read_only(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied)
}
