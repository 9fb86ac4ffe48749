//! Disks for which there is no room.

use std::io::Write as _;
use std::path::Path;

use smolvm_testkit::SmallDisk;
use tempfile::tempdir;

use super::fixture::{EVERYTHING, Image, MIB, NOTHING, request};
use crate::disk::{Capabilities, DiskError, Isolation, isolate};

#[test]
fn a_copy_without_room_is_refused_before_it_is_begun() {
    let Some(small) = SmallDisk::new(4 * MIB) else { return };
    let (needed, free) = full(small.path(), Some(Isolation::Copy), NOTHING);
    assert_eq!(needed, Image::DATA);
    assert!(free > 3 * MIB, "{free}");
}

#[test]
fn no_way_leaves_anything_on_a_full_disk() {
    let Some(small) = SmallDisk::new(MIB) else { return };
    fill(&mut std::fs::File::create(small.path().join("rest")).unwrap());
    for isolation in [Isolation::Overlay, Isolation::Scratch, Isolation::Copy] {
        full(small.path(), Some(isolation), EVERYTHING);
    }
    full(small.path(), None, EVERYTHING);
}

/// Asks for a disk that there is no room for; returns the bytes needed and free.
fn full(directory: &Path, isolation: Option<Isolation>, capabilities: Capabilities) -> (u64, u64) {
    let elsewhere = tempdir().unwrap();
    let image = Image::in_directory(elsewhere.path());
    let before = std::fs::read_dir(directory).unwrap().count();
    let error = isolate(image.base(), directory, &request(isolation, capabilities)).unwrap_err();
    assert_eq!(std::fs::read_dir(directory).unwrap().count(), before);
    image.assert_untouched();
    match error {
        DiskError::StorageFull { needed, free, path } => {
            assert_eq!(path.parent(), Some(directory));
            (needed, free)
        }
        other => panic!("{other}"),
    }
}

/// Writes until nothing more can be written.
fn fill(file: &mut std::fs::File) {
    for length in [1 << 16, 4096] {
        while file.write_all(&vec![1; length]).is_ok() {}
    }
}
