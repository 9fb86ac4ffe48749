//! A small disk is full when it is full, and read-only for root too.

use std::io::ErrorKind;

use smolvm_testkit::SmallDisk;

#[test]
fn a_small_disk_fills_up_and_turns_read_only() {
    let Some(disk) = SmallDisk::new(1 << 20) else {
        return;
    };
    let file = disk.path().join("file");
    let error = fs_err::write(&file, vec![1; 2 << 20]).expect_err("twice the space");
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    fs_err::write(&file, b"kept").expect("there is space for that");
    disk.remount_read_only();
    let error = fs_err::write(&file, b"new").expect_err("read-only");
    assert_eq!(error.kind(), ErrorKind::ReadOnlyFilesystem);
    disk.remount_read_write();
    fs_err::write(&file, b"new").expect("writable again");

    let path = disk.path().to_owned();
    drop(disk);
    assert!(!path.exists(), "unmounted, and its directory removed");
    let mounts = fs_err::read_to_string("/proc/self/mounts").expect("Linux");
    assert!(!mounts.contains(path.to_str().expect("UTF-8")));
}
