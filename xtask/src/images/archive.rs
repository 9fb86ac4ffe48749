//! Debian's archive as this machine's apt knows it: which versions there are,
//! and fetching them. Nothing is installed on the machine.
//!
//! Packages for another architecture come from the same sources; apt keeps its
//! lists of them under `target/images`, so that the machine's own stay as they
//! are.

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

/// What signs Debian's lists; apt trusts it anyway where there is no such file.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The machine's sources of Debian packages, without those of others.
pub(super) struct Archive {
    list: NamedTempFile,
    suite: String,
    /// The architecture of the packages, by Debian's name, where it is not the
    /// machine's own.
    foreign: Option<&'static str>,
}

impl Archive {
    /// Reads the sources that apt is set up with.
    pub(super) fn of_this_machine() -> Result<Self> {
        let lines = Self::sources()?;
        Self::of(&lines, None)
    }

    /// The same sources, for packages of another `architecture`.
    pub(super) fn of_architecture(architecture: &'static str) -> Result<Self> {
        let lines = Self::sources()?;
        let lines = if Path::new(KEYRING).exists() {
            lines.replace("deb ", &format!("deb [signed-by={KEYRING}] "))
        } else {
            lines
        };
        let archive = Self::of(&lines, Some(architecture))?;
        let place = place_of(architecture);
        fs_err::create_dir_all(place.join("lists/partial"))?;
        fs_err::create_dir_all(place.join("cache/archives/partial"))?;
        command::capture(archive.apt("apt-get").args(["update", "--quiet"]))?;
        Ok(archive)
    }

    /// A line for each source that apt has.
    fn sources() -> Result<String> {
        let lines = command::capture(command("apt-get").args([
            "indextargets",
            "--format=deb $(REPO_URI) $(RELEASE) $(COMPONENT)",
            "Created-By: Packages",
            "Origin: Debian",
        ]))?;
        if lines.trim().is_empty() {
            bail!(
                "apt has no lists of Debian's packages. Run this and try again:\n    \
                 sudo apt-get update"
            );
        }
        Ok(lines)
    }

    fn of(lines: &str, foreign: Option<&'static str>) -> Result<Self> {
        let words = lines.lines().next().unwrap_or_default().split_whitespace();
        let suite = words.rev().nth(1).context("a source of apt names no suite")?.to_owned();
        let mut list = tempfile::Builder::new().suffix(".list").tempfile()?;
        list.write_all(lines.as_bytes())?;
        Ok(Self { list, suite, foreign })
    }

    /// The architecture of the packages, by Debian's name.
    pub(super) fn architecture(&self) -> &'static str {
        self.foreign.unwrap_or("amd64")
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

    /// The package's file, fetched if it was not before.
    fn download(&self, package: &str) -> Result<PathBuf> {
        self.fetch(&[package.to_owned()])?;
        Ok(kept_file(package, self.foreign))
    }

    /// Fetches the files of `packages` that were not fetched before, all at
    /// once: apt takes a second to read its lists. It checks the files against
    /// the signed ones.
    pub(super) fn fetch(&self, packages: &[String]) -> Result<()> {
        let is_missing = |package: &&String| !kept_file(package, self.foreign).exists();
        let missing: Vec<_> = packages.iter().filter(is_missing).collect();
        if missing.is_empty() {
            return Ok(());
        }
        fs_err::create_dir_all(kept())?;
        let fresh = tempfile::tempdir_in(kept())?;
        let mut download = self.apt("apt-get");
        download.arg("download").args(&missing).current_dir(fresh.path());
        command::capture(&mut download)?;
        for fetched in fs_err::read_dir(fresh.path())? {
            let fetched = fetched?;
            let file = fetched.file_name();
            let is_of = |package: &&&String| is_file_of(&file.to_string_lossy(), package);
            let package = missing.iter().find(is_of);
            let package =
                package.with_context(|| format!("nobody asked for {}", file.display()))?;
            fs_err::rename(fetched.path(), kept_file(package, self.foreign))?;
        }
        Ok(())
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
        if let Some(architecture) = self.foreign {
            for option in [
                format!("APT::Architecture={architecture}"),
                format!("APT::Architectures={architecture}"),
                format!("Dir::State={}", place_of(architecture).display()),
                format!("Dir::Cache={}", place_of(architecture).join("cache").display()),
                "Dir::State::status=/dev/null".to_owned(),
                // Translations and descriptions of programs are of no use here.
                "Acquire::Languages=none".to_owned(),
                "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
            ] {
                apt.args(["-o", &option]);
            }
        }
        apt
    }
}

/// Where apt keeps what it knows of a foreign architecture's packages.
fn place_of(architecture: &str) -> PathBuf {
    paths::images().join(format!(".apt-{architecture}"))
}

/// Where packages are kept that were fetched.
fn kept() -> PathBuf {
    paths::images().join(".packages")
}

fn kept_file(package: &str, foreign: Option<&str>) -> PathBuf {
    let name = package.replace([':', '/'], "%");
    kept().join(match foreign {
        Some(architecture) => format!("{name}.{architecture}.deb"),
        None => format!("{name}.deb"),
    })
}

/// Whether apt calls a package's file so: `name_version_architecture.deb`.
fn is_file_of(file: &str, package: &str) -> bool {
    let name = package.split_once('=').map_or(package, |(name, _)| name);
    file.split_once('_').is_some_and(|(of_file, _)| of_file == name)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fetched_file_belongs_to_the_package_of_its_name() {
        let file = "apt_2.6.1_arm64.deb";
        assert!(is_file_of(file, "apt=2.6.1"));
        assert!(!is_file_of(file, "apt-utils=2.6.1"));
        assert!(!is_file_of("libapt-pkg6.0_2.6.1_arm64.deb", "apt=2.6.1"));
    }
}
