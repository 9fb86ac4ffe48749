//! Which cached image a kernel belongs to, told by where it lies.

use std::path::Path;

use crate::cache::{self, Dir, Memory, Record};
use crate::image::LocalImage;
use crate::name::{FileName, ImageName};
use crate::progress::AssetKind;

impl LocalImage {
    /// The cached image that `kernel` is the kernel of, by the record beside it: so that a kernel
    /// and a root file system, given as two paths, boot with the image's initrd and arguments.
    ///
    /// `None` where there is no such record, or the directory is not this user's alone: what
    /// somebody else may write must not decide what is booted. Nothing is verified.
    ///
    /// ```
    /// use smolvm_image::LocalImage;
    ///
    /// assert!(LocalImage::of_kernel("/boot/vmlinuz".as_ref()).is_none());
    /// ```
    #[must_use]
    pub fn of_kernel(kernel: &Path) -> Option<Self> {
        let kernel = std::path::absolute(kernel).ok()?;
        let directory = kernel.parent()?;
        let name: ImageName = directory.file_name()?.to_str()?.parse().ok()?;
        let dir = cache::open_root(directory.parent()?).ok()??.open_dir(&name).ok()??;
        if !dir.is_private().unwrap_or(false) {
            return None;
        }
        let memory = Memory::read(&dir);
        let record = memory.record()?;
        if record.name != name.as_str()
            || kernel.file_name()?.to_str()? != file(record, AssetKind::Kernel)?.as_str()
        {
            return None;
        }
        let path_of = |kind| {
            let file = file(record, kind)?;
            is_there(&dir, &file).then(|| dir.path_of(&file))
        };
        Some(Self {
            name: name.clone(),
            kernel_path: path_of(AssetKind::Kernel)?,
            rootfs_path: path_of(AssetKind::Rootfs)?,
            initrd_path: path_of(AssetKind::Initrd),
            boot_args: record.boot_args.clone(),
        })
    }
}

/// A record may be damaged: only a plain name is taken from it.
fn file(record: &Record, kind: AssetKind) -> Option<FileName> {
    record.asset(kind)?.file.parse().ok()
}

fn is_there(dir: &Dir, file: &FileName) -> bool {
    matches!(dir.open_file(file), Ok(Some(_)))
}
