//! Files that guests write to, and those that they never may.

use std::fs::{File, Permissions};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tempfile::tempdir;

use crate::disk::{DiskError, share};

fn file(directory: &Path, mode: u32) -> PathBuf {
    let path = directory.join("rootfs.ext4");
    fs_err::write(&path, [1; 4096]).unwrap();
    std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    path
}

#[test]
fn what_is_shared_is_written_to() {
    let directory = tempdir().unwrap();
    let path = file(directory.path(), 0o644);
    let shared = share(&path, false).unwrap();
    shared.write_all_at(b"guest", 0).unwrap();
    assert!(fs_err::read(&path).unwrap().starts_with(b"guest"));
}

#[test]
fn a_cached_file_is_never_shared() {
    let directory = tempdir().unwrap();
    let path = file(directory.path(), 0o644);
    assert!(matches!(share(&path, true).unwrap_err(), DiskError::Cached { .. }));

    std::fs::set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
    assert!(matches!(share(&path, false).unwrap_err(), DiskError::ReadOnly { .. }));
    fs_err::write(directory.path().join("image.json"), "{}").unwrap();
    let link = tempdir().unwrap();
    let link = link.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    for path in [&path, &link] {
        let error = share(path, false).unwrap_err();
        assert!(matches!(error, DiskError::Cached { .. }), "{error}");
    }
}

#[test]
fn two_vms_do_not_share_one_file() {
    let directory = tempdir().unwrap();
    let path = file(directory.path(), 0o644);
    let first = share(&path, false).unwrap();
    assert!(matches!(share(&path, false).unwrap_err(), DiskError::InUse { .. }));
    drop(first);
    share(&path, false).unwrap();
}

#[test]
fn a_missing_or_empty_file_is_named() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("rootfs.ext4");
    let error = share(&path, false).unwrap_err();
    assert!(matches!(error, DiskError::Io { .. }), "{error}");
    File::create(&path).unwrap();
    let error = share(&path, false).unwrap_err();
    assert!(matches!(error, DiskError::Empty { .. }), "{error}");
}
