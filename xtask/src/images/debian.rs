//! Debian trees, made by mmdebstrap from the machine's sources, or unpacked where
//! the machine could not run what is in them.

use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Result, bail};

use super::archive::Archive;
use super::kernel::Kernel;
use super::{Inputs, Kind, SOURCE_DATE_EPOCH};
use crate::command::{self, command};
use crate::setup;

/// Which packages a tree is made of.
pub(super) struct Selection {
    /// A set of packages, by mmdebstrap's name.
    variant: &'static str,
    /// What apt calls the packages in that set.
    base: &'static [&'static str],
    /// Asked for on top of it.
    extra: &'static [&'static str],
}

/// What a small server has.
pub(super) const SERVER: Selection = Selection {
    variant: "apt",
    base: &["?and(?essential,?architecture(amd64))", "apt"],
    extra: &["ca-certificates", "e2fsprogs", "iproute2", "mount", "procps", "tzdata"],
};

/// What `debootstrap --variant=minbase --include=systemd-sysv` installs, the
/// package with which a kernel's package lists its modules, and what the
/// networks of guests need, which the tests boot in such a machine.
pub(super) const SYSTEMD: Selection = Selection {
    variant: "minbase",
    base: &[
        "?and(?essential,?architecture(amd64))",
        "?and(?priority(required),?architecture(amd64))",
        "apt",
    ],
    extra: &["systemd-sysv", "kmod", "iproute2", "nftables", "passt"],
};

/// What `debootstrap --variant=minbase` installs, for the processor of another machine.
pub(super) const MINBASE_ARM64: Selection = Selection {
    variant: "minbase",
    base: &[
        "?and(?essential,?architecture(arm64))",
        "?and(?priority(required),?architecture(arm64))",
        "apt",
    ],
    extra: &[],
};

impl Selection {
    /// The packages that this is today, as `name=version`, sorted.
    pub(super) fn packages(&self, archive: &Archive) -> Result<Vec<String>> {
        archive.closure(&[self.base, self.extra].concat())
    }

    /// Installs them into the empty directory `tree`.
    pub(super) fn plant(&self, tree: &Path, kind: Kind, inputs: &Inputs<'_>) -> Result<()> {
        must_be_root(kind)?;
        let mut debootstrap = command("mmdebstrap");
        debootstrap.env("SOURCE_DATE_EPOCH", SOURCE_DATE_EPOCH.to_string());
        debootstrap.args(["--quiet", "--format=directory"]);
        debootstrap.arg(format!("--variant={}", self.variant));
        debootstrap.arg(format!("--include={}", self.extra.join(",")));
        let archive = inputs.archive;
        debootstrap.args([archive.suite().as_ref(), tree, archive.source_list()]);
        command::capture(&mut debootstrap)?;

        let status = fs_err::read_to_string(tree.join("var/lib/dpkg/status"))?;
        for package in installed(&status) {
            if !inputs.packages.contains(&package) {
                bail!("the archive now has {package}: it changed meanwhile. Try again");
            }
        }
        forget_maker(tree)
    }
}

/// Unpacks all `packages` but the kernel's into the empty directory `tree`, as the first stage of
/// `debootstrap --foreign` does. The scripts in them are for a processor that this machine does not
/// have; what is missing for that is the list of users.
pub(super) fn unpack(tree: &Path, kind: Kind, inputs: &Inputs<'_>) -> Result<()> {
    must_be_root(kind)?;
    // All programs lie below /usr.
    for directory in ["bin", "lib", "sbin"] {
        let below = Path::new("usr").join(directory);
        fs_err::create_dir_all(tree.join(&below))?;
        symlink(&below, tree.join(directory))?;
    }
    inputs.archive.fetch(inputs.packages)?;
    for package in inputs.packages.iter().filter(|name| !name.starts_with("linux-image-")) {
        inputs.archive.unpack(package, tree)?;
    }
    for file in ["passwd", "group"] {
        let master = tree.join("usr/share/base-passwd").join(format!("{file}.master"));
        fs_err::copy(master, tree.join("etc").join(file))?;
    }
    Ok(())
}

fn must_be_root(kind: Kind) -> Result<()> {
    if !setup::is_root() {
        bail!(
            "the files of {} belong to several users, so only root can make it. Run this and try \
             again:\n    sudo cargo xtask images --only {}",
            kind.name(),
            kind.word(),
        );
    }
    Ok(())
}

/// Adds a kernel's modules and the lists that its package makes of them. The
/// package itself would bring a maker of initial RAM disks, and with it udev.
pub(super) fn add_modules(tree: &Path, kernel: &Kernel) -> Result<()> {
    let modules = tree.join("usr/lib/modules");
    fs_err::create_dir_all(&modules)?;
    command::capture(command("cp").arg("--archive").args([&kernel.modules, &modules]))?;
    let mut depmod = command("chroot");
    command::capture(depmod.arg(tree).args(["depmod", &kernel.release])).map(drop)
}

/// Removes what programs make for themselves.
pub(super) fn clean(tree: &Path) -> Result<()> {
    for directory in ["var/cache", "var/log", "var/lib/apt/lists", "tmp", "dev", "run"] {
        empty(&tree.join(directory))?;
    }
    // Lists with the previous state in them, one per change made.
    for file in ["etc/passwd-", "etc/group-", "etc/shadow-", "etc/gshadow-"] {
        if tree.join(file).exists() {
            fs_err::remove_file(tree.join(file))?;
        }
    }
    Ok(())
}

/// Empties what tells of the machine that the tree was made on.
fn forget_maker(tree: &Path) -> Result<()> {
    for file in ["etc/hostname", "etc/resolv.conf", "etc/machine-id", "etc/apt/sources.list"] {
        fs_err::write(tree.join(file), "")?;
    }
    empty(&tree.join("etc/apt/sources.list.d"))
}

/// The packages in dpkg's list, as `name=version`.
fn installed(status: &str) -> impl Iterator<Item = String> {
    status.split("\n\n").filter_map(|paragraph| {
        let field = |key: &str| paragraph.lines().find_map(|line| line.strip_prefix(key));
        Some(format!("{}={}", field("Package: ")?, field("Version: ")?))
    })
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
