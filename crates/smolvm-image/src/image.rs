//! What an image is: where it comes from ([`ImageSource`], [`Asset`]) and where it lies
//! ([`LocalImage`]).

use std::path::PathBuf;

use serde::Serialize;

use crate::asset_url::AssetUrl;
use crate::digest::Digest;
use crate::name::{FileName, ImageName};
use crate::progress::AssetKind;
use crate::source_builder::{ImageSourceBuilder, SourceError};

/// One file of an image, and what it must contain.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Asset {
    /// Which part of the image it is.
    pub kind: AssetKind,
    /// Where it is published.
    pub url: AssetUrl,
    /// The digest that it must have (the pin). Without one it is not checked against anything
    /// when it arrives, only against what was seen then on every later use.
    pub digest: Option<Digest>,
    /// Its name in the cache.
    pub file_name: FileName,
}

/// The definition of an image: a name, two or three assets and how to boot them.
///
/// ```
/// use smolvm_image::ImageSource;
///
/// let source = ImageSource::builder("my-image")
///     .kernel("https://example.com/vmlinux.bin", None)
///     .rootfs("https://example.com/rootfs.ext4", Some(&"0".repeat(64)))
///     .boot_args("console=ttyS0")
///     .build()?;
/// assert_eq!(source.rootfs().file_name.as_str(), "rootfs.ext4");
/// # Ok::<(), smolvm_image::SourceError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ImageSource {
    name: ImageName,
    kernel: Asset,
    initrd: Option<Asset>,
    rootfs: Asset,
    boot_args: Option<String>,
}

/// A cached image, verified and ready for use. All paths are absolute.
///
/// The files are read-only and may be shared with other images and processes: boot from a copy
/// (or a copy-on-write layer), never from these files themselves.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[non_exhaustive]
pub struct LocalImage {
    /// The name of the image.
    pub name: ImageName,
    /// The kernel.
    pub kernel_path: PathBuf,
    /// The root file system.
    pub rootfs_path: PathBuf,
    /// The initial RAM disk, where the image has one.
    pub initrd_path: Option<PathBuf>,
    /// The kernel command line that the image asks for, where it asks for one.
    pub boot_args: Option<String>,
}

impl ImageSource {
    /// Starts the definition of an image. Nothing is checked before
    /// [`build`](ImageSourceBuilder::build).
    pub fn builder(name: &str) -> ImageSourceBuilder {
        ImageSourceBuilder::new(name)
    }

    /// An image of parsed parts; checks what no part can know of the others.
    pub(crate) fn from_parts(
        name: ImageName,
        kernel: Asset,
        initrd: Option<Asset>,
        rootfs: Asset,
        boot_args: Option<String>,
    ) -> Result<Self, SourceError> {
        if boot_args.as_ref().is_some_and(|args| args.contains(char::is_control)) {
            return Err(SourceError::BootArgs);
        }
        let source = Self { name, kernel, initrd, rootfs, boot_args };
        let assets: Vec<&Asset> = source.assets().collect();
        for (index, one) in assets.iter().enumerate() {
            for other in &assets[index + 1..] {
                // On some file systems names that differ in case are the same file.
                if one.file_name.eq_ignore_ascii_case(&other.file_name) {
                    let name = other.file_name.to_string();
                    return Err(SourceError::SameFileName(one.kind, other.kind, name));
                }
            }
        }
        Ok(source)
    }

    /// The name of the image.
    #[must_use]
    pub fn name(&self) -> &ImageName {
        &self.name
    }

    /// The kernel.
    #[must_use]
    pub fn kernel(&self) -> &Asset {
        &self.kernel
    }

    /// The root file system.
    #[must_use]
    pub fn rootfs(&self) -> &Asset {
        &self.rootfs
    }

    /// The initial RAM disk, where the image has one.
    #[must_use]
    pub fn initrd(&self) -> Option<&Asset> {
        self.initrd.as_ref()
    }

    /// The kernel command line that the image asks for.
    #[must_use]
    pub fn boot_args(&self) -> Option<&str> {
        self.boot_args.as_deref()
    }

    /// The assets in a fixed order: kernel, initrd, rootfs.
    pub fn assets(&self) -> impl Iterator<Item = &Asset> {
        std::iter::once(&self.kernel).chain(&self.initrd).chain(std::iter::once(&self.rootfs))
    }

    /// The same image with these digests as pins.
    pub(crate) fn pinned(mut self, digest_of: impl Fn(AssetKind) -> Option<Digest>) -> Self {
        for asset in [Some(&mut self.kernel), self.initrd.as_mut(), Some(&mut self.rootfs)]
            .into_iter()
            .flatten()
        {
            asset.digest = digest_of(asset.kind).or(asset.digest);
        }
        self
    }
}

impl AssetKind {
    /// The documented name of the file in the cache.
    #[must_use]
    pub fn default_file_name(self) -> &'static str {
        match self {
            Self::Kernel => "vmlinux.bin",
            Self::Initrd => "initrd.img",
            Self::Rootfs => "rootfs.ext4",
        }
    }
}
