//! [`OpenImage`]: an image whose files are held open, so that what is booted is what was verified.

use std::fs::File;
use std::ops::Deref;

use crate::cache;
use crate::cancel::CancelToken;
use crate::error::ImageError;
use crate::image::LocalImage;
use crate::progress::AssetKind;

/// A cached image with its files open for reading, the very ones of which every byte was hashed.
///
/// Another file can be put under a path at any time; an open file stays what it is, even when its
/// image is replaced by another version.
///
/// As long as this is there, the image is in use: [`remove`](crate::ImageManager::remove) and
/// [`prune`](crate::ImageManager::prune), of any process, leave it alone. Each file is held with a
/// shared lock (`flock(2)`) that belongs to the open file: a copy of the descriptor, also one that
/// another process has inherited, holds it as well. It ends with the last of them, however that
/// ends. On a file system without locks nobody knows of it.
#[derive(Debug)]
pub struct OpenImage {
    image: LocalImage,
    kernel: File,
    initrd: Option<File>,
    rootfs: File,
}

/// The files of an image as they are collected.
#[derive(Debug, Default)]
pub(crate) struct VerifiedFiles {
    kernel: Option<File>,
    initrd: Option<File>,
    rootfs: Option<File>,
}

impl VerifiedFiles {
    pub(crate) fn put(&mut self, kind: AssetKind, file: File) {
        let place = match kind {
            AssetKind::Kernel => &mut self.kernel,
            AssetKind::Initrd => &mut self.initrd,
            AssetKind::Rootfs => &mut self.rootfs,
        };
        *place = Some(file);
    }

    /// Holds the files with shared locks, as long as anybody has them or a copy of them.
    pub(crate) fn hold(&self, cancel: &CancelToken) -> Result<(), ImageError> {
        let files = [&self.kernel, &self.initrd, &self.rootfs];
        files.into_iter().flatten().try_for_each(|file| cache::hold(file, cancel))
    }

    pub(crate) fn get(&self, kind: AssetKind) -> Option<&File> {
        match kind {
            AssetKind::Kernel => self.kernel.as_ref(),
            AssetKind::Initrd => self.initrd.as_ref(),
            AssetKind::Rootfs => self.rootfs.as_ref(),
        }
    }

    /// Joins the files with the image that they are; `None` where one of them is missing.
    pub(crate) fn of(self, image: LocalImage) -> Option<OpenImage> {
        let (kernel, rootfs) = (self.kernel?, self.rootfs?);
        Some(OpenImage { image, kernel, initrd: self.initrd, rootfs })
    }
}

impl OpenImage {
    /// The kernel.
    #[must_use]
    pub fn kernel(&self) -> &File {
        &self.kernel
    }

    /// The initial RAM disk, where the image has one.
    #[must_use]
    pub fn initrd(&self) -> Option<&File> {
        self.initrd.as_ref()
    }

    /// The root file system.
    #[must_use]
    pub fn rootfs(&self) -> &File {
        &self.rootfs
    }
}

impl Deref for OpenImage {
    type Target = LocalImage;

    fn deref(&self) -> &LocalImage {
        &self.image
    }
}
