//! Kernels in the form that their VMM boots, made once of those that images have, and kept for
//! later boots.
//!
//! They lie in a directory of the machines' own, each under the digest of what it was made of: so
//! that nobody writes to an image cache, and another kernel under the same path is another one.

use std::fs::{DirBuilder, File, Permissions};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha2::{Digest as _, Sha256};
use smolvm_image::Digest;

use super::{KernelError, PositionedReader, payload, pvh};

/// How many are kept: those that were used last. Who has one open keeps it.
const KEPT: usize = 4;

/// The `vmlinux` inside the bzImage `kernel`, open for reading. `path` is what messages call the
/// bzImage, `directory` is where such kernels are kept.
pub(crate) fn unpacked(kernel: &File, path: &Path, directory: &Path) -> Result<File, KernelError> {
    kept(kernel, path, directory, "", payload::unpack)
}

/// The ELF kernel `kernel` with an entry for QEMU, open for reading. `path` is what messages call
/// it, `directory` is where such kernels are kept.
pub(crate) fn with_pvh_entry(
    kernel: &File,
    path: &Path,
    directory: &Path,
) -> Result<File, KernelError> {
    kept(kernel, path, directory, ".pvh", pvh::add_entry)
}

/// What `make` makes of a kernel, or has made of it before.
fn kept(
    kernel: &File,
    path: &Path,
    directory: &Path,
    suffix: &str,
    make: impl FnOnce(&File, &Path, &mut File) -> Result<(), KernelError>,
) -> Result<File, KernelError> {
    let failed = |source| KernelError::Unpack { path: path.to_owned(), source };
    let digest =
        digest(kernel).map_err(|source| KernelError::Read { path: path.to_owned(), source })?;
    let kept = directory.join(digest + suffix);
    if let Ok(file) = File::open(&kept) {
        // So that it is not among those that are removed first.
        let _ = file.set_modified(SystemTime::now());
        return Ok(file);
    }
    DirBuilder::new().mode(0o700).recursive(true).create(directory).map_err(failed)?;
    let mut new =
        tempfile::Builder::new().prefix(".new-").tempfile_in(directory).map_err(failed)?;
    make(kernel, path, new.as_file_mut())?;
    let publish = || {
        new.as_file().set_permissions(Permissions::from_mode(0o400))?;
        // Else it might have its name, and nothing in it, after a power cut.
        new.as_file().sync_data()?;
        new.persist(&kept).map_err(|error| error.error)?;
        File::open(&kept)
    };
    let file = publish().map_err(failed)?;
    remove_oldest(directory);
    Ok(file)
}

fn digest(kernel: &File) -> io::Result<String> {
    let mut reader = PositionedReader::new(kernel, 0);
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match reader.read(&mut buffer)? {
            0 => break,
            count => hasher.update(&buffer[..count]),
        }
    }
    Ok(Digest::from(hasher).to_string())
}

/// Removes all but those that were used last. One that stays is removed the next time.
fn remove_oldest(directory: &Path) {
    let used = |path: PathBuf| Some((path.metadata().ok()?.modified().ok()?, path));
    let entries = fs_err::read_dir(directory).into_iter().flatten().flatten();
    let mut kernels: Vec<_> = entries.filter_map(|entry| used(entry.path())).collect();
    kernels.sort_unstable_by(|one, other| other.cmp(one));
    for (_, path) in kernels.into_iter().skip(KEPT) {
        let _ = fs_err::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::super::payload::tests::bzimage_of;
    use super::*;

    #[test]
    fn a_kernel_is_unpacked_once_and_the_oldest_are_removed() {
        let temp = tempfile::tempdir().unwrap();
        let (path, kept) = (temp.path().join("vmlinuz"), temp.path().join("vms/.kernels"));
        let unpack = |content: &[u8]| {
            fs_err::write(&path, bzimage_of(content)).unwrap();
            let bzimage = File::open(&path).unwrap();
            let mut kernel = unpacked(&bzimage, &path, &kept).unwrap();
            let mut bytes = Vec::new();
            kernel.read_to_end(&mut bytes).unwrap();
            assert_eq!(bytes, content);
            kernel.metadata().unwrap().ino()
        };
        let first = unpack(b"\x7fELF one");
        assert_eq!(unpack(b"\x7fELF one"), first);
        for number in 0..9_u8 {
            unpack(&[b"\x7fELF another ".as_slice(), &[number]].concat());
        }
        assert_eq!(fs_err::read_dir(&kept).unwrap().count(), KEPT);
        unpack(b"\x7fELF one");
    }

    #[test]
    fn what_cannot_be_unpacked_leaves_nothing() {
        let temp = tempfile::tempdir().unwrap();
        let (path, kept) = (temp.path().join("vmlinuz"), temp.path().join("kernels"));
        fs_err::write(&path, vec![0; 4096]).unwrap();
        let error = unpacked(&File::open(&path).unwrap(), &path, &kept).unwrap_err().to_string();
        assert!(error.contains("vmlinuz cannot be unpacked"), "{error}");
        assert_eq!(fs_err::read_dir(&kept).unwrap().count(), 0);
    }
}
