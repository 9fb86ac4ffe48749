//! A full disk, and paths that cannot be used: an error that says where, and nothing changed.

use std::path::Path;

use smolvm_image::{ErrorKind, ImageError, ImageSource};
use smolvm_testkit::{Fault, SmallDisk};

use super::bench::{Bench, Part, Pins, Published, assert_nothing_left, manager_of};
use super::other_process::{Order, can_become_others};
use super::tree;

/// The image with another root file system.
fn with_rootfs(image: &Published, rootfs: &Part, pins: Pins) -> ImageSource {
    Published { rootfs: rootfs.clone(), ..image.clone() }.source(pins)
}

/// Behaviours 19 and 25: what does not fit is refused before the server has sent a byte of it,
/// with the path and the bytes; what was cached stays, and nothing is left.
#[test]
fn what_does_not_fit_is_not_even_begun() {
    for pins in Pins::BOTH {
        let Some(disk) = SmallDisk::new(2 << 20) else { return };
        let bench = Bench::new();
        let cache = disk.path().join("cache");
        let image = bench.publish("hello", 1);
        manager_of(&cache, [image.source(pins)]).ensure_image("hello").unwrap();

        let large = bench.part("/large", 9, 4 << 20);
        // The answer has no body before the client hangs up.
        bench.server.route(&large.path, large.route().fault(Fault::stall_at(0)));
        let before = tree::list(&cache.join("hello"));
        let error = manager_of(&cache, [with_rootfs(&image, &large, pins)])
            .ensure_image("hello")
            .unwrap_err();

        let ImageError::DiskFull { path, needed, available } = &error else {
            panic!("{error}");
        };
        assert!(path.starts_with(&cache), "{error}");
        assert_eq!(*needed, large.len(), "{error}");
        assert!(*available < 2 << 20, "{error}");
        assert_eq!(error.kind(), ErrorKind::Cache);
        let message = error.to_string();
        assert!(message.contains("disk"), "{message}");
        assert!(message.contains(&*path.to_string_lossy()), "{message}");
        assert!(message.contains(&large.len().to_string()), "{message}");
        assert!(!message.contains("network") && !message.contains("fetch"), "{message}");
        assert_eq!(bench.server.bytes_sent_for(&large.path), 0, "the space was checked too late");
        tree::assert_unchanged(&cache.join("hello"), &before);
        assert_nothing_left(&cache);
        manager_of(&cache, [image.source(pins)]).ensure_image("hello").unwrap();
        assert_eq!(bench.server.requests().len(), 3, "{pins:?}: the earlier version was lost");
    }
}

/// Behaviour 19: a body that nobody announced fills the disk; the room is given back.
#[test]
fn a_full_disk_in_the_middle_of_a_transfer() {
    for pins in Pins::BOTH {
        let Some(disk) = SmallDisk::new(2 << 20) else { return };
        let bench = Bench::new();
        let cache = disk.path().join("cache");
        let image = bench.publish("hello", 1);
        manager_of(&cache, [image.source(pins)]).ensure_image("hello").unwrap();
        let large = bench.part("/large", 9, 4 << 20);
        bench.server.route(&large.path, large.route().fault(Fault::Chunked));

        let before = tree::list(&cache.join("hello"));
        let free = free_bytes(disk.path());
        let error = manager_of(&cache, [with_rootfs(&image, &large, pins)])
            .ensure_image("hello")
            .unwrap_err();
        assert!(
            matches!(&error, ImageError::DiskFull { path, .. } if path.starts_with(&cache)),
            "{error}"
        );
        tree::assert_unchanged(&cache.join("hello"), &before);
        assert_nothing_left(&cache);
        // The lock of the new asset stays, and names its holder: a page at most.
        assert!(free - free_bytes(disk.path()) <= 4096, "the room was not given back");
    }
}

/// Behaviour 19: a directory that may not be written to, a file in the place of a directory, a
/// name that is too long: the message names the path.
#[test]
fn unusable_paths_are_named() {
    let bench = Bench::new();
    let image = bench.publish("hello", 1).source(Pins::With);
    let file = bench.directory().join("file");
    fs_err::write(&file, b"no directory").unwrap();
    for (cache, remedy) in [
        (file.clone(), "Check each component"),
        (file.join("cache"), "Check each component"),
        (bench.directory().join("x".repeat(300)), "Use a shorter path"),
        (bench.directory().join("y/".repeat(2500)), "Use a shorter path"),
    ] {
        let before = tree::list(bench.directory());
        let manager = manager_of(&cache, [image.clone()]);
        assert!(!manager.is_cached("hello"));
        let error = manager.ensure_image("hello").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cache, "{error}");
        let path = cache.to_string_lossy();
        assert!(error.to_string().contains(path.trim_end_matches('/')), "{error}");
        assert!(error.to_string().contains(remedy), "{error}");
        tree::assert_unchanged(bench.directory(), &before);
    }
    assert!(bench.server.requests().is_empty());
}

/// Behaviour 19: permission denied, at the cache and at one image of it.
#[test]
fn permission_denied_names_the_path() {
    if !can_become_others() {
        return;
    }
    let (bench, user) = (Bench::new(), 61_002);
    let image = bench.publish("hello", 1);
    let order = Order::ensure(&bench, &image.source(Pins::With));

    // Nobody but root can make the cache there.
    let (kind, message) = order.start_as(user, user).expect_failure();
    assert_eq!(kind, "Cache", "{message}");
    assert!(message.contains(&*bench.cache().to_string_lossy()), "{message}");
    assert!(message.contains("Check who owns it"), "{message}");
    assert!(!bench.cache().exists());

    fs_err::create_dir(bench.cache()).unwrap();
    std::os::unix::fs::chown(bench.cache(), Some(user), Some(user)).unwrap();
    let directory = bench.cache().join("hello");
    fs_err::create_dir(&directory).unwrap();
    tree::chmod(&directory, 0o755);
    let (kind, message) = order.start_as(user, user).expect_failure();
    assert_eq!(kind, "Cache", "{message}");
    assert!(message.contains(&*directory.to_string_lossy()), "{message}");
    assert_eq!(tree::list(&directory).len(), 1);

    // What has arrived is not lost: with the permission back it is not asked for again.
    std::os::unix::fs::chown(&directory, Some(user), Some(user)).unwrap();
    order.start_as(user, user).expect_image();
    assert_eq!(bench.server.requests().len(), 2);
    assert_nothing_left(&bench.cache());
}

fn free_bytes(path: &Path) -> u64 {
    let stat = rustix::fs::statvfs(path).unwrap();
    stat.f_bfree * stat.f_frsize
}
