//! The registry entries under which made images are offered.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Serialize;

use super::{INITRD, Image, KERNEL, Kind, ROOTFS};

/// What the kernel is told: where to print, how to leave the machine at a
/// reboot or a panic (by resetting the processor, which every machine
/// monitor notices), and which disk holds the root file system.
pub(crate) const BOOT_ARGS: &str = "console=ttyS0 reboot=t panic=-1 quiet root=/dev/vda rw";

/// The same for machines of arm64, which have another console and one way to be reset.
const BOOT_ARGS_OF_ARM64: &str = "console=ttyAMA0 panic=-1 quiet root=/dev/vda rw";

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
    #[serde(skip_serializing_if = "Option::is_none")]
    initrd_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    initrd_sha256: Option<&'a str>,
    boot_args: &'static str,
}

/// The entries as TOML, for a server that has each image under its name
/// below `base`.
pub(super) fn entries(images: &[Image], base: &str) -> Result<String> {
    let base = base.trim_end_matches('/');
    let mut registry = Registry { images: BTreeMap::new() };
    for image in images {
        let url = |file| format!("{base}/{}/{file}", image.name);
        let initrd = image.manifest.files.get(INITRD);
        let entry = Entry {
            kernel_url: url(KERNEL),
            kernel_sha256: image.manifest.sha256(KERNEL)?,
            rootfs_url: url(ROOTFS),
            rootfs_sha256: image.manifest.sha256(ROOTFS)?,
            initrd_url: initrd.map(|_| url(INITRD)),
            initrd_sha256: initrd.map(|file| file.sha256.as_str()),
            boot_args: if image.name == Kind::Arm64.name() {
                BOOT_ARGS_OF_ARM64
            } else {
                BOOT_ARGS
            },
        };
        registry.images.insert(image.name, entry);
    }
    Ok(toml::to_string(&registry)?)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::images::Manifest;

    fn image(name: &'static str, files: &[&str]) -> Image {
        let entry =
            |file: &&str| format!("[files.\"{file}\"]\nsha256 = \"{file}-sha\"\nsize = 1\n");
        let files: String = files.iter().map(entry).collect();
        let manifest = format!("recipe = ''\npackage_lists = ''\npackages = []\n{files}");
        let manifest: Manifest = toml::from_str(&manifest).unwrap();
        Image { name, dir: PathBuf::new(), manifest }
    }

    #[test]
    fn an_image_without_an_initrd_has_an_entry_without_one() {
        let images =
            [image("with", &[KERNEL, INITRD, ROOTFS]), image("without", &[KERNEL, ROOTFS])];
        let entries: toml::Table =
            toml::from_str(&entries(&images, "http://127.0.0.1:1/").unwrap()).unwrap();
        let with = entries["images"]["with"].as_table().unwrap();
        let without = entries["images"]["without"].as_table().unwrap();
        assert_eq!(with["initrd_url"].as_str(), Some("http://127.0.0.1:1/with/initrd.img"));
        assert_eq!(with["initrd_sha256"].as_str(), Some("initrd.img-sha"));
        assert_eq!(without["rootfs_sha256"].as_str(), Some("rootfs.ext4-sha"));
        assert!(without.keys().all(|key| !key.starts_with("initrd")), "{without}");
    }
}
