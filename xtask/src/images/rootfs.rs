//! The root file systems: busybox with its commands or alone, and Debian trees.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::alpine;
use super::archive::Archive;
use super::debian::{self, MINBASE_ARM64, SERVER, SYSTEMD};
use super::ext4::{self, Owners};
use super::{Inputs, Kind, kernel};
use crate::command::{self, command};

const MIB: u64 = 1 << 20;
const BUSYBOX: &str = "busybox-static";

/// The packages that an image is made of today, as `name=version`, sorted.
pub(super) fn packages(kind: Kind, archive: &Archive) -> Result<Vec<String>> {
    let mut packages = match kind {
        Kind::Alpine => return Ok(vec![alpine::PACKAGE.to_owned()]),
        Kind::Small | Kind::Bare => Vec::new(),
        Kind::Large => SERVER.packages(archive)?,
        Kind::Systemd => SYSTEMD.packages(archive)?,
        Kind::Arm64 => MINBASE_ARM64.packages(archive)?,
    };
    if !matches!(kind, Kind::Systemd | Kind::Arm64) {
        packages.push(archive.candidate(BUSYBOX)?);
    }
    packages.push(kernel::package(archive)?);
    packages.sort();
    Ok(packages)
}

/// Fetches busybox, one static program with all the commands, into `dir`.
pub(super) fn fetch_busybox(archive: &Archive, dir: &Path) -> Result<PathBuf> {
    archive.unpack(&archive.candidate(BUSYBOX)?, dir)?;
    ["bin/busybox", "usr/bin/busybox"]
        .map(|path| dir.join(path))
        .into_iter()
        .find(|path| path.is_file())
        .with_context(|| format!("the package {BUSYBOX} has no busybox"))
}

/// Makes the root file system of an image.
pub(super) fn make(kind: Kind, path: &Path, inputs: &Inputs<'_>) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let tree = directory.path();
    let (size, uuid, owners) = match kind {
        Kind::Small => (32 * MIB, "5f0c3a52-6d1e-4b67-9d0c-0a4f6e1d7b21", Owners::Root),
        Kind::Bare => (16 * MIB, "e7b1c0f6-2a94-4d83-b5d2-91c6083f4ae7", Owners::Root),
        Kind::Large => (320 * MIB, "c8a9e2d4-1b7f-4c35-8e60-7d2f94b3a516", Owners::Kept),
        Kind::Systemd => (384 * MIB, "2d6f9b38-c471-4ea0-8f1b-5e03a7d2c964", Owners::Kept),
        // It comes whole.
        Kind::Alpine => return Ok(()),
        Kind::Arm64 => (320 * MIB, "7b1e4c90-53d2-4f68-a0c7-19e8b25d60f3", Owners::Kept),
    };
    match kind {
        Kind::Small => {
            plant_commands(tree, &inputs.busybox)?;
            plant_init(tree)?;
        }
        Kind::Bare => {
            fs_err::create_dir(tree.join("bin"))?;
            set_mode(&tree.join("bin"), 0o755)?;
            plant_busybox(tree, &inputs.busybox)?;
        }
        Kind::Large => {
            SERVER.plant(tree, kind, inputs)?;
            debian::clean(tree)?;
            plant_init(tree)?;
        }
        Kind::Systemd => {
            SYSTEMD.plant(tree, kind, inputs)?;
            debian::add_modules(tree, &inputs.kernel)?;
        }
        Kind::Arm64 => debian::unpack(tree, kind, inputs)?,
        Kind::Alpine => {}
    }
    // The mode of a new temporary directory is for its owner alone.
    set_mode(tree, 0o755)?;
    ext4::make(path, size, uuid, tree, owners)
}

fn plant_commands(tree: &Path, busybox: &Path) -> Result<()> {
    for directory in ["bin", "dev", "etc", "proc", "root", "run", "sbin", "sys", "tmp"] {
        fs_err::create_dir(tree.join(directory))?;
        set_mode(&tree.join(directory), if directory == "tmp" { 0o1777 } else { 0o755 })?;
    }
    plant_busybox(tree, busybox)?;
    for applet in command::capture(command(busybox).arg("--list"))?.lines() {
        let link = tree.join("bin").join(applet);
        if applet != "busybox" {
            symlink("busybox", &link).with_context(|| format!("cannot make {}", link.display()))?;
        }
    }
    Ok(())
}

fn plant_busybox(tree: &Path, busybox: &Path) -> Result<()> {
    fs_err::copy(busybox, tree.join("bin/busybox"))?;
    set_mode(&tree.join("bin/busybox"), 0o755)
}

fn plant_init(tree: &Path) -> Result<()> {
    let init = tree.join("sbin/init");
    fs_err::write(&init, include_str!("rootfs-init.sh"))?;
    set_mode(&init, 0o755)
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    Ok(fs_err::set_permissions(path, std::fs::Permissions::from_mode(mode))?)
}
