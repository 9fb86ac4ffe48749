//! The root file systems: a busybox userland, and a real Debian tree.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::archive::Archive;
use super::ext4::{self, Owners};
use super::{Kind, SOURCE_DATE_EPOCH, kernel};
use crate::command::{self, command};
use crate::setup;

const MIB: u64 = 1 << 20;
const BUSYBOX: &str = "busybox-static";

/// Asked for on top of [`BASE`]: what a small server has.
const EXTRA: &[&str] = &["ca-certificates", "e2fsprogs", "iproute2", "mount", "procps", "tzdata"];
/// What apt calls the packages that no Debian goes without, and apt itself.
const BASE: &[&str] = &["?and(?essential,?architecture(amd64))", "apt"];

/// The packages that an image is made of today, as `name=version`, sorted.
pub(super) fn packages(kind: Kind, archive: &Archive) -> Result<Vec<String>> {
    let mut packages = match kind {
        Kind::Small => Vec::new(),
        Kind::Large => archive.closure(&[BASE, EXTRA].concat())?,
    };
    packages.push(archive.candidate(BUSYBOX)?);
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
pub(super) fn make(
    kind: Kind,
    path: &Path,
    archive: &Archive,
    packages: &[String],
    busybox: &Path,
) -> Result<()> {
    let tree = tempfile::tempdir()?;
    match kind {
        Kind::Small => {
            plant_busybox(tree.path(), busybox)?;
            let uuid = "5f0c3a52-6d1e-4b67-9d0c-0a4f6e1d7b21";
            ext4::make(path, 32 * MIB, uuid, tree.path(), Owners::Root)
        }
        Kind::Large => {
            plant_debian(tree.path(), archive, packages)?;
            let uuid = "c8a9e2d4-1b7f-4c35-8e60-7d2f94b3a516";
            ext4::make(path, 320 * MIB, uuid, tree.path(), Owners::Kept)
        }
    }
}

fn plant_busybox(tree: &Path, busybox: &Path) -> Result<()> {
    for directory in ["bin", "dev", "etc", "proc", "root", "run", "sbin", "sys", "tmp"] {
        fs_err::create_dir(tree.join(directory))?;
        set_mode(&tree.join(directory), if directory == "tmp" { 0o1777 } else { 0o755 })?;
    }
    fs_err::copy(busybox, tree.join("bin/busybox"))?;
    set_mode(&tree.join("bin/busybox"), 0o755)?;
    for applet in command::capture(command(busybox).arg("--list"))?.lines() {
        let link = tree.join("bin").join(applet);
        if applet != "busybox" {
            symlink("busybox", &link).with_context(|| format!("cannot make {}", link.display()))?;
        }
    }
    plant_init(tree)
}

fn plant_debian(tree: &Path, archive: &Archive, packages: &[String]) -> Result<()> {
    if !setup::is_root() {
        bail!(
            "the files of debian-large belong to several users, so only root can make it. Run \
             this and try again:\n    sudo cargo xtask images --only large"
        );
    }
    let mut debootstrap = command("mmdebstrap");
    debootstrap.env("SOURCE_DATE_EPOCH", SOURCE_DATE_EPOCH.to_string());
    debootstrap.args(["--quiet", "--format=directory", "--variant=apt"]);
    debootstrap.arg(format!("--include={}", EXTRA.join(",")));
    debootstrap.args([archive.suite().as_ref(), tree, archive.source_list()]);
    command::capture(&mut debootstrap)?;

    let status = fs_err::read_to_string(tree.join("var/lib/dpkg/status"))?;
    for package in installed(&status) {
        if !packages.contains(&package) {
            bail!("the archive now has {package}: it changed meanwhile. Try again");
        }
    }
    clean(tree)?;
    plant_init(tree)
}

/// The packages in dpkg's list, as `name=version`.
fn installed(status: &str) -> impl Iterator<Item = String> {
    status.split("\n\n").filter_map(|paragraph| {
        let field = |key: &str| paragraph.lines().find_map(|line| line.strip_prefix(key));
        Some(format!("{}={}", field("Package: ")?, field("Version: ")?))
    })
}

/// Removes what belongs to the machine that the tree was made on, and what
/// programs make for themselves.
fn clean(tree: &Path) -> Result<()> {
    for directory in ["var/cache", "var/log", "var/lib/apt/lists", "tmp", "dev", "run"] {
        empty(&tree.join(directory))?;
    }
    for file in ["etc/hostname", "etc/resolv.conf", "etc/machine-id", "etc/apt/sources.list"] {
        fs_err::write(tree.join(file), "")?;
    }
    // Lists with the previous state in them, one per change made.
    for file in ["etc/passwd-", "etc/group-", "etc/shadow-", "etc/gshadow-"] {
        if tree.join(file).exists() {
            fs_err::remove_file(tree.join(file))?;
        }
    }
    empty(&tree.join("etc/apt/sources.list.d"))
}

fn empty(directory: &Path) -> Result<()> {
    for entry in fs_err::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs_err::remove_dir_all(entry.path())?;
        } else {
            fs_err::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn plant_init(tree: &Path) -> Result<()> {
    let init = tree.join("sbin/init");
    fs_err::write(&init, include_str!("rootfs-init.sh"))?;
    set_mode(&init, 0o755)?;
    // The mode of a new temporary directory is for its owner alone.
    set_mode(tree, 0o755)
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    Ok(fs_err::set_permissions(path, std::fs::Permissions::from_mode(mode))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn installed_packages_are_read_from_dpkgs_list() {
        let status = "Package: apt\nStatus: install ok installed\nVersion: 2.6.1\n\n\
                      Package: tzdata\nVersion: 2026a-0+deb12u1\nDescription: zones\n";
        let packages: Vec<_> = installed(status).collect();
        assert_eq!(packages, ["apt=2.6.1", "tzdata=2026a-0+deb12u1"]);
    }
}
