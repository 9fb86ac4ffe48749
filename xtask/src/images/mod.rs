//! `cargo xtask images`: bootable images made from Debian packages, and one of
//! Alpine, the same bytes from the same package versions, kept under `target/images/<name>`.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::{paths, setup, term};

mod alpine;
mod archive;
mod cpio;
mod debian;
mod ext4;
mod initrd;
mod kernel;
mod manifest;
mod modules;
mod registry;
mod rootfs;

use archive::{Archive, lists_digest};
use kernel::Kernel;
pub(crate) use manifest::{Manifest, digest_of};
#[cfg(test)]
pub(crate) use registry::BOOT_ARGS;

/// Every time stamp in an image, in seconds since 1970: the first of 2025.
const SOURCE_DATE_EPOCH: u64 = 1_735_689_600;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Make only this image.
    #[arg(long)]
    only: Option<Kind>,
    /// Print the registry entries of the images, for a server that serves
    /// target/images at this address.
    #[arg(long, value_name = "BASE")]
    registry: Option<String>,
    /// Make each image once more and fail unless every byte is the same.
    #[arg(long)]
    check_reproducible: bool,
}

/// Which image. Those that only root can make come last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// debian-tiny: Debian's kernel and a busybox userland.
    Small,
    /// busybox-only: the same kernel and a root file system with one static
    /// busybox and nothing else.
    Bare,
    /// debian-large: the same kernel and a Debian tree of several hundred MiB.
    Large,
    /// debian-systemd: the same kernel, no initial RAM disk, and a Debian tree
    /// with systemd, as debootstrap leaves it.
    Systemd,
    /// debian-arm64: Debian's kernel for arm64, an initial RAM disk with its
    /// drivers, and the packages of a minimal Debian for it.
    Arm64,
    /// alpine: Alpine and its kernel, no initial RAM disk.
    Alpine,
}

/// What an image is made from.
struct Inputs<'a> {
    archive: &'a Archive,
    /// The packages, as `name=version`.
    packages: &'a [String],
    kernel: Kernel,
    /// One static program with all the commands.
    busybox: PathBuf,
}

/// An image that lies on this machine.
pub(crate) struct Image {
    pub(crate) name: &'static str,
    pub(crate) dir: PathBuf,
    pub(crate) manifest: Manifest,
}

// The files of an image, by the names that they are served under.
pub(crate) const KERNEL: &str = "vmlinuz";
/// Some images have none.
pub(crate) const INITRD: &str = "initrd.img";
pub(crate) const ROOTFS: &str = "rootfs.ext4";

impl Kind {
    /// Whether its files belong to several users.
    pub(crate) fn needs_root(self) -> bool {
        matches!(self, Self::Large | Self::Systemd | Self::Arm64)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Small => "debian-tiny",
            Self::Large => "debian-large",
            Self::Bare => "busybox-only",
            Self::Systemd => "debian-systemd",
            Self::Arm64 => "debian-arm64",
            Self::Alpine => "alpine",
        }
    }

    /// Debian's archive, for the processor that the image is for.
    fn archive(self) -> Result<Archive> {
        match self {
            Self::Arm64 => Archive::of_architecture("arm64"),
            _ => Archive::of_this_machine(),
        }
    }

    /// What `cargo xtask images --only` calls it.
    fn word(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// The files that the image has.
    fn files(self) -> &'static [&'static str] {
        match self {
            Self::Systemd | Self::Alpine => &[KERNEL, ROOTFS],
            _ => &[KERNEL, INITRD, ROOTFS],
        }
    }
}

/// Makes what is asked for, unless it is there.
pub(crate) fn run(args: &Args) -> Result<()> {
    let kinds = args.only.as_ref().map_or(Kind::value_variants(), std::slice::from_ref);
    let mut images = Vec::new();
    for &kind in kinds {
        let image = ensure(kind)?;
        if args.check_reproducible {
            check_reproducible(kind, &image)?;
        }
        images.push(image);
    }
    if let Some(base) = &args.registry {
        term::plain(&registry::entries(&images, base)?);
    }
    Ok(())
}

/// Writes the registry file for a server that serves `target/images` at `base`.
pub(crate) fn write_registry(path: &Path, images: &[Image], base: &str) -> Result<()> {
    Ok(fs_err::write(path, registry::entries(images, base)?)?)
}

/// The image of this kind, made if it is missing or out of date.
pub(crate) fn ensure(kind: Kind) -> Result<Image> {
    let all = paths::images();
    fs_err::create_dir_all(&all)?;
    let lock = File::create(all.join(".lock")).context("cannot make a lock file")?;
    lock.lock().context("cannot lock target/images")?;

    let (name, dir) = (kind.name(), all.join(kind.name()));
    let recipe = recipe()?;
    let kept = Manifest::of_kept(&dir, &recipe);
    if let Some(manifest) = &kept
        && manifest.package_lists == lists_digest()?
    {
        term::note(&format!("{name} is up to date"));
        return Ok(Image { name, dir, manifest: manifest.clone() });
    }

    setup::update_package_lists()?;
    let archive = kind.archive()?;
    let packages = rootfs::packages(kind, &archive)?;
    let package_lists = lists_digest()?;
    if let Some(mut manifest) = kept.filter(|kept| kept.packages == packages) {
        manifest.package_lists = package_lists;
        manifest.write(&dir)?;
        term::note(&format!("{name} is up to date"));
        return Ok(Image { name, dir, manifest });
    }

    term::note(&format!("making {name} from {} packages", packages.len()));
    let fresh = make(kind, &archive, &packages)?;
    let files = manifest::describe(fresh.path(), kind.files())?;
    let manifest = Manifest { recipe, package_lists, packages, files };
    manifest.write(fresh.path())?;
    replace(fresh, &dir)?;
    Ok(Image { name, dir, manifest })
}

/// Puts an image in the place of the one at `dir`. That one is removed
/// afterwards: it takes a while, and whoever looks meanwhile finds an image.
fn replace(fresh: TempDir, dir: &Path) -> Result<()> {
    let outdated = new_directory()?;
    if dir.exists() {
        fs_err::rename(dir, outdated.path().join("outdated"))?;
    }
    Ok(fs_err::rename(fresh.keep(), dir)?)
}

/// A directory beside those of the images.
fn new_directory() -> Result<TempDir> {
    Ok(tempfile::Builder::new().prefix(".new-").tempdir_in(paths::images())?)
}

/// Makes the files of an image in a new directory.
fn make(kind: Kind, archive: &Archive, packages: &[String]) -> Result<TempDir> {
    use std::os::unix::fs::PermissionsExt as _;

    let fresh = new_directory()?;
    // A server that runs as somebody else reads them too.
    fs_err::set_permissions(fresh.path(), std::fs::Permissions::from_mode(0o755))?;
    if kind == Kind::Alpine {
        alpine::make(fresh.path())?;
        return Ok(fresh);
    }
    let scratch = tempfile::tempdir()?;
    let inputs = Inputs {
        archive,
        packages,
        kernel: kernel::fetch(archive, &scratch.path().join("kernel"))?,
        // It is run here, too.
        busybox: rootfs::fetch_busybox(
            &Archive::of_this_machine()?,
            &scratch.path().join("busybox"),
        )?,
    };
    fs_err::copy(&inputs.kernel.image, fresh.path().join(KERNEL))?;
    let initrd = fresh.path().join(INITRD);
    match kind {
        Kind::Small | Kind::Large => initrd::write(&initrd, &inputs.kernel, &inputs.busybox)?,
        Kind::Bare | Kind::Arm64 => {
            initrd::write_modules(&initrd, &inputs.kernel, &inputs.busybox)?;
        }
        Kind::Systemd | Kind::Alpine => {}
    }
    rootfs::make(kind, &fresh.path().join(ROOTFS), &inputs)?;
    Ok(fresh)
}

fn check_reproducible(kind: Kind, image: &Image) -> Result<()> {
    let archive = kind.archive()?;
    let again = make(kind, &archive, &image.manifest.packages)?;
    for file in kind.files() {
        let (first, second) = (image.dir.join(file), again.path().join(file));
        let (first, second) = (digest_of(&first)?, digest_of(&second)?);
        if first != second {
            bail!("{}/{file} is not the same twice: {first}, then {second}", image.name);
        }
        term::note(&format!("{}/{file} twice: {first}", image.name));
    }
    Ok(())
}

/// What decides, besides the packages, which bytes come out: this program's
/// recipes and the program that writes the file system.
fn recipe() -> Result<String> {
    const SOURCES: &[&str] = &[
        include_str!("mod.rs"),
        include_str!("alpine.rs"),
        include_str!("cpio.rs"),
        include_str!("debian.rs"),
        include_str!("ext4.rs"),
        include_str!("initrd.rs"),
        include_str!("initrd-init.sh"),
        include_str!("kernel.rs"),
        include_str!("mke2fs.conf"),
        include_str!("modules.rs"),
        include_str!("rootfs.rs"),
        include_str!("rootfs-init.sh"),
    ];
    let mut digest = Sha256::new();
    for source in SOURCES {
        digest.update(source);
    }
    digest.update(ext4::maker_version()?);
    Ok(manifest::hex(&digest.finalize()))
}
