//! Debian's archive as this machine's apt knows it: which versions there are,
//! and fetching them. Nothing is installed on the machine.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use super::manifest::hex;
use crate::command::{self, command};
use crate::paths;

/// Where apt keeps the package lists that it fetched.
const LISTS: &str = "/var/lib/apt/lists";

/// The machine's sources of Debian packages, without those of others.
pub(super) struct Archive {
    list: NamedTempFile,
    suite: String,
}

impl Archive {
    /// Reads the sources that apt is set up with.
    pub(super) fn of_this_machine() -> Result<Self> {
        let lines = command::capture(command("apt-get").args([
            "indextargets",
            "--format=deb $(REPO_URI) $(RELEASE) $(COMPONENT)",
            "Created-By: Packages",
            "Origin: Debian",
        ]))?;
        let Some(suite) = lines.split_whitespace().nth(2).map(str::to_owned) else {
            bail!(
                "apt has no lists of Debian's packages. Run this and try again:\n    \
                 sudo apt-get update"
            );
        };
        let mut list = tempfile::Builder::new().suffix(".list").tempfile()?;
        list.write_all(lines.as_bytes())?;
        Ok(Self { list, suite })
    }

    /// The sources, as a file that apt and mmdebstrap read.
    pub(super) fn source_list(&self) -> &Path {
        self.list.path()
    }

    /// The name of the release, such as `bookworm`.
    pub(super) fn suite(&self) -> &str {
        &self.suite
    }

    /// The one package that `package` stands for today: a kernel's
    /// metapackage depends on the package with the newest kernel.
    pub(super) fn dependency_of(&self, package: &str) -> Result<String> {
        let depends = command::capture(self.apt("apt-cache").args([
            "depends",
            "--important",
            "--no-recommends",
            package,
        ]))?;
        depends
            .lines()
            .find_map(|line| line.trim().strip_prefix("Depends: "))
            .map(str::to_owned)
            .with_context(|| format!("the package {package} depends on none"))
    }

    /// The version of a package that would be fetched, as `name=version`.
    pub(super) fn candidate(&self, package: &str) -> Result<String> {
        let show =
            command::capture(self.apt("apt-cache").args(["--no-all-versions", "show", package]))?;
        let version = show.lines().find_map(|line| line.strip_prefix("Version: "));
        let version = version.with_context(|| format!("apt has no version of {package}"))?;
        Ok(format!("{package}={version}"))
    }

    /// What apt would install on an empty machine that is asked for
    /// `packages`, as `name=version`, sorted.
    pub(super) fn closure(&self, packages: &[&str]) -> Result<Vec<String>> {
        let mut simulate = self.apt("apt-get");
        simulate.args(["--simulate", "--no-install-recommends", "install"]);
        simulate.args(packages);
        let plan = command::capture(
            // The last word wins: here no package counts as installed.
            simulate.args(["-o", "Dir::State::status=/dev/null"]),
        )?;
        let installed = plan.lines().filter_map(|line| {
            let mut words = line.strip_prefix("Inst ")?.split_whitespace();
            let name = words.next()?;
            Some(format!("{name}={}", words.next()?.strip_prefix('(')?))
        });
        Ok(installed.collect::<BTreeSet<_>>().into_iter().collect())
    }

    /// Fetches a package, given as `name=version`, and unpacks it into `dir`.
    pub(super) fn unpack(&self, package: &str, dir: &Path) -> Result<()> {
        let file = self.download(package)?;
        fs_err::create_dir_all(dir)?;
        command::capture(command("dpkg-deb").arg("-x").args([&file, dir])).map(drop)
    }

    /// The package's file, fetched if it was not before. apt checks it
    /// against the signed lists.
    fn download(&self, package: &str) -> Result<PathBuf> {
        let kept = paths::images().join(".packages");
        fs_err::create_dir_all(&kept)?;
        let file = kept.join(format!("{}.deb", package.replace([':', '/'], "%")));
        if file.exists() {
            return Ok(file);
        }
        let fresh = tempfile::tempdir_in(&kept)?;
        let mut download = self.apt("apt-get");
        command::capture(download.args(["download", package]).current_dir(fresh.path()))?;
        let mut fetched = fs_err::read_dir(fresh.path())?;
        let fetched = fetched.next().with_context(|| format!("apt fetched no {package}"))??;
        fs_err::rename(fetched.path(), &file)?;
        Ok(file)
    }

    fn apt(&self, program: &str) -> Command {
        let mut list = std::ffi::OsString::from("Dir::Etc::SourceList=");
        list.push(self.source_list());
        let mut apt = command(program);
        apt.arg("-o").arg(list);
        for option in [
            "Dir::Etc::SourceParts=/dev/null",
            "Dir::Etc::Preferences=/dev/null",
            "Dir::Etc::PreferencesParts=/dev/null",
            // Else apt fetches as a user that cannot write to this work tree.
            "APT::Sandbox::User=root",
        ] {
            apt.args(["-o", option]);
        }
        apt
    }
}

/// A digest of the package lists that apt has: while it stays the same, so do
/// the versions, and nobody needs to ask apt, which takes seconds.
pub(super) fn lists_digest() -> Result<String> {
    let mut lists: Vec<PathBuf> =
        fs_err::read_dir(LISTS)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    lists.retain(|path| path.to_string_lossy().ends_with("Release"));
    lists.sort();
    let mut digest = Sha256::new();
    for list in lists {
        digest.update(fs_err::read(list)?);
    }
    Ok(hex(&digest.finalize()))
}
