//! Debian's kernel for virtual machines, taken from its package.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::archive::Archive;

/// A kernel that was unpacked somewhere.
pub(super) struct Kernel {
    /// The bootable file.
    pub(super) image: PathBuf,
    /// Its release as `uname -r` prints it, such as `6.1.0-56-cloud-amd64`.
    pub(super) release: String,
    /// The directory with its modules, which has that name.
    pub(super) modules: PathBuf,
}

/// The package with the kernel, as `name=version`.
pub(super) fn package(archive: &Archive) -> Result<String> {
    // It always depends on the newest such kernel.
    let metapackage = format!("linux-image-cloud-{}", archive.architecture());
    archive.candidate(&archive.dependency_of(&metapackage)?)
}

/// Fetches the kernel and unpacks it into `dir`.
pub(super) fn fetch(archive: &Archive, dir: &Path) -> Result<Kernel> {
    archive.unpack(&package(archive)?, dir)?;
    for entry in fs_err::read_dir(dir.join("boot"))? {
        let image = entry?.path();
        let name = image.file_name().and_then(|name| name.to_str());
        let release = name.and_then(|name| name.strip_prefix("vmlinuz-")).map(str::to_owned);
        let Some(release) = release else {
            continue;
        };
        // Newer releases have everything below /usr.
        let modules = ["lib/modules", "usr/lib/modules"]
            .map(|modules| dir.join(modules).join(&release))
            .into_iter()
            .find(|modules| modules.is_dir())
            .with_context(|| format!("the package of Linux {release} has no modules"))?;
        return Ok(Kernel { image, release, modules });
    }
    anyhow::bail!("the kernel's package has no boot/vmlinuz-*")
}
