//! Scratch disks, judged by ext4's own checker.

use std::os::unix::fs::MetadataExt as _;
use std::process::Command;

use tempfile::tempdir;

use super::fixture::{EVERYTHING, Image, MIB, assert_alone_and_private, request};
use crate::disk::{Format, Isolation, Request, isolate};

#[test]
fn a_scratch_disk_is_an_empty_ext4_that_takes_no_room() {
    let directory = tempdir().unwrap();
    let image = Image::in_directory(directory.path());
    for (asked, size) in [(None, 1024 * MIB), (Some(3000 * MIB), 3000 * MIB)] {
        let vm = tempdir().unwrap();
        let request = Request { size: asked, ..request(Some(Isolation::Scratch), EVERYTHING) };
        let disk = isolate(image.base(), vm.path(), &request).unwrap();
        assert_eq!((disk.size, disk.format()), (size, Format::Raw));
        assert_alone_and_private(vm.path(), &disk);

        let path = disk.path(vm.path());
        let metadata = std::fs::metadata(&path).unwrap();
        assert_eq!(metadata.len(), size);
        assert!(metadata.blocks() * 512 < 4 * MIB, "{} blocks", metadata.blocks());
        let checked = Command::new("/sbin/e2fsck").arg("-fn").arg(&path).output().unwrap();
        let said = String::from_utf8_lossy(&checked.stdout);
        assert!(checked.status.success(), "{said}");
        // lost+found and nothing else.
        assert!(said.contains(": 11/"), "{said}");
    }
    image.assert_untouched();
}
