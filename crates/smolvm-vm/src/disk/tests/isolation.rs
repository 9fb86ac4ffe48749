//! Which way is taken where, and that the base stays what it is.

use std::fs::File;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;

use smolvm_testkit::SmallDisk;
use tempfile::tempdir;

use super::fixture::{
    EVERYTHING, Image, LoopMount, MIB, NOTHING, assert_alone_and_private, read_all, request,
};
use crate::disk::{Base, BaseUse, Capabilities, DiskError, Format, Isolation, Request, isolate};

/// Makes a raw disk in a directory on the image's file system, finds the image in it, and writes
/// all over it.
fn make_and_overwrite(directory: &Path, request: &Request) -> Isolation {
    let image = Image::in_directory(directory);
    let vm = directory.join("vm");
    std::fs::create_dir(&vm).unwrap();
    let disk = isolate(image.base(), &vm, request).unwrap();
    assert_eq!((disk.format(), disk.base_use()), (Format::Raw, BaseUse::Unused));
    assert_alone_and_private(&vm, &disk);

    let file = disk.open(&vm).unwrap();
    let size = usize::try_from(disk.size).unwrap();
    let mut expected = read_all(&image.file);
    expected.resize(size, 0);
    assert!(read_all(&file) == expected, "the disk begins as the image");
    file.write_all_at(&vec![0xa5; size], 0).unwrap();
    image.assert_untouched();
    disk.isolation
}

/// Behaviour 44.
#[test]
fn xfs_and_btrfs_share_the_blocks() {
    for mkfs in [&["mkfs.xfs", "-q", "-m", "reflink=1"][..], &["mkfs.btrfs", "-q"]] {
        let Some(mount) = LoopMount::new(mkfs, 512 * MIB) else { continue };
        let grown = Request { size: Some(32 * MIB), ..request(None, EVERYTHING) };
        for (name, request) in [("same", request(None, EVERYTHING)), ("grown", grown)] {
            let directory = mount.path().join(name);
            std::fs::create_dir(&directory).unwrap();
            assert_eq!(make_and_overwrite(&directory, &request), Isolation::Reflink);
        }
    }
}

/// Behaviour 44.
#[test]
fn a_copy_has_the_data_and_the_holes() {
    let directory = tempdir().unwrap();
    let odd = Request { size: Some(30 * MIB + 1), ..request(Some(Isolation::Copy), NOTHING) };
    assert_eq!(make_and_overwrite(directory.path(), &odd), Isolation::Copy);

    let image = tempdir().unwrap();
    let image = Image::in_directory(image.path());
    let vm = tempdir().unwrap();
    let disk = isolate(image.base(), vm.path(), &odd).unwrap();
    assert_eq!(disk.size, 30 * MIB + 512, "whole sectors");
    let blocks = disk.open(vm.path()).unwrap().metadata().unwrap().blocks();
    assert!(blocks * 512 < Image::DATA + MIB, "{blocks} blocks");
}

/// The kernel copies between files of one file system only, or of one kind.
#[test]
fn a_copy_goes_from_one_file_system_to_another() {
    let Some(other) = SmallDisk::new(64 * MIB) else { return };
    let directory = tempdir().unwrap();
    let image = Image::in_directory(directory.path());
    let request = request(Some(Isolation::Copy), NOTHING);
    let disk = isolate(image.base(), other.path(), &request).unwrap();
    assert!(read_all(&disk.open(other.path()).unwrap()) == read_all(&image.file));
    image.assert_untouched();
}

#[test]
fn the_first_way_that_works_is_taken() {
    let Some(tmpfs) = SmallDisk::new(64 * MIB) else { return };
    let image = Image::in_directory(tmpfs.path());
    let overlayfs_only = Capabilities { qcow2: false, overlayfs: true };
    let cases = [
        (EVERYTHING, Isolation::Overlay, BaseUse::Backing),
        (overlayfs_only, Isolation::Scratch, BaseUse::ReadOnlyDisk),
        (NOTHING, Isolation::Copy, BaseUse::Unused),
    ];
    for (capabilities, expected, base_use) in cases {
        let vm = tempfile::tempdir_in(tmpfs.path()).unwrap();
        let disk = isolate(image.base(), vm.path(), &request(None, capabilities)).unwrap();
        assert_eq!((disk.isolation, disk.base_use()), (expected, base_use));
        assert_alone_and_private(vm.path(), &disk);
    }
    image.assert_untouched();
}

#[test]
fn a_way_that_is_asked_for_is_taken_or_refused() {
    let Some(tmpfs) = SmallDisk::new(64 * MIB) else { return };
    let image = Image::in_directory(tmpfs.path());
    let vm = tempfile::tempdir_in(tmpfs.path()).unwrap();
    for (isolation, capabilities) in [
        (Isolation::Reflink, EVERYTHING),
        (Isolation::Overlay, NOTHING),
        (Isolation::Scratch, NOTHING),
    ] {
        let error =
            isolate(image.base(), vm.path(), &request(Some(isolation), capabilities)).unwrap_err();
        let named = isolation.file_name();
        assert!(matches!(error, DiskError::Unsupported { .. }), "{named}: {error}");
    }
    assert_eq!(std::fs::read_dir(vm.path()).unwrap().count(), 0);
}

/// What was verified is what is copied, whatever has its name by now.
#[test]
fn the_descriptor_is_what_counts() {
    let directory = tempdir().unwrap();
    let image = Image::in_directory(directory.path());
    fs_err::rename(&image.path, directory.path().join("moved")).unwrap();
    fs_err::write(&image.path, "another file").unwrap();
    let vm = tempdir().unwrap();
    let request = request(Some(Isolation::Copy), NOTHING);
    let disk = isolate(image.base(), vm.path(), &request).unwrap();
    assert!(read_all(&disk.open(vm.path()).unwrap()) == read_all(&image.file));
}

#[test]
fn impossible_sizes_are_refused() {
    let directory = tempdir().unwrap();
    let image = Image::in_directory(directory.path());
    let vm = tempdir().unwrap();
    let ask = |base, size| {
        let request = Request { size: Some(size), ..request(None, EVERYTHING) };
        isolate(base, vm.path(), &request).unwrap_err()
    };
    let error = ask(image.base(), Image::SIZE - 1);
    assert!(matches!(error, DiskError::TooSmall { .. }), "{error}");
    assert!(error.to_string().contains("rootfs.ext4"), "{error}");
    let error = ask(image.base(), u64::MAX);
    assert!(matches!(error, DiskError::TooLarge { .. }), "{error}");

    let path = directory.path().join("empty");
    let empty = File::create_new(&path).unwrap();
    let error = ask(Base { file: &empty, path: &path }, 512);
    assert!(matches!(error, DiskError::Empty { .. }), "{error}");
    assert_eq!(std::fs::read_dir(vm.path()).unwrap().count(), 0);
}

#[test]
fn a_base_that_cannot_be_read_is_named() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("rootfs.ext4");
    fs_err::write(&path, [1; 4096]).unwrap();
    let file = File::options().append(true).open(&path).unwrap();
    let vm = tempdir().unwrap();
    let request = request(Some(Isolation::Copy), NOTHING);
    let error = isolate(Base { file: &file, path: &path }, vm.path(), &request).unwrap_err();
    assert!(matches!(error, DiskError::Io { action: "read", .. }), "{error}");
    assert!(error.to_string().contains("rootfs.ext4"), "{error}");
}
