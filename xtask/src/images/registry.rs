//! The registry entries under which made images are offered.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Serialize;

use super::{INITRD, Image, KERNEL, ROOTFS};

/// What the kernel is told: where to print, how to leave the machine at a
/// reboot or a panic (by resetting the processor, which every machine
/// monitor notices), and which disk holds the root file system.
pub(crate) const BOOT_ARGS: &str = "console=ttyS0 reboot=t panic=-1 quiet root=/dev/vda rw";

#[derive(Serialize)]
struct Registry<'a> {
    images: BTreeMap<&'a str, Entry<'a>>,
}

#[derive(Serialize)]
struct Entry<'a> {
    kernel_url: String,
    kernel_sha256: &'a str,
    rootfs_url: String,
    rootfs_sha256: &'a str,
    initrd_url: String,
    initrd_sha256: &'a str,
    boot_args: &'static str,
}

/// The entries as TOML, for a server that has each image under its name
/// below `base`.
pub(super) fn entries(images: &[Image], base: &str) -> Result<String> {
    let base = base.trim_end_matches('/');
    let mut registry = Registry { images: BTreeMap::new() };
    for image in images {
        let url = |file| format!("{base}/{}/{file}", image.name);
        let entry = Entry {
            kernel_url: url(KERNEL),
            kernel_sha256: image.manifest.sha256(KERNEL)?,
            rootfs_url: url(ROOTFS),
            rootfs_sha256: image.manifest.sha256(ROOTFS)?,
            initrd_url: url(INITRD),
            initrd_sha256: image.manifest.sha256(INITRD)?,
            boot_args: BOOT_ARGS,
        };
        registry.images.insert(image.name, entry);
    }
    Ok(toml::to_string(&registry)?)
}
