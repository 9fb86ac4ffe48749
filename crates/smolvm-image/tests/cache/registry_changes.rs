//! The same name with another definition, and definitions with all their fields.

use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;

use smolvm_image::{AssetKind, ImageSource};

use super::bench::{Bench, Pins, Published, assert_nothing_left};
use super::tree;

/// A changed pin, or a changed address without a pin, is another image: it is swapped in, and who
/// has the earlier one open keeps it.
#[test]
fn another_definition_is_swapped_in() {
    for pins in Pins::BOTH {
        let bench = Bench::new();
        let image = bench.publish("hello", 1);
        bench.manager([image.source(pins)]).ensure_image("hello").unwrap();
        let mut open = fs_err::File::open(bench.file("hello", "rootfs.ext4")).unwrap();
        let kernel_inode = tree::inode(&bench.file("hello", "vmlinux.bin"));

        let rootfs = bench.part("/elsewhere/rootfs", 77, 200_003);
        let changed = Published { rootfs, ..image.clone() };
        let manager = bench.manager([changed.source(pins)]);
        assert!(!manager.is_cached("hello"), "{pins:?}");
        manager.ensure_image("hello").unwrap();
        assert!(manager.is_cached("hello"));
        changed.assert_in(&bench.cache());
        assert_eq!(tree::inode(&bench.file("hello", "vmlinux.bin")), kernel_inode);
        assert_eq!(bench.server.requests().len(), 3, "{pins:?}");

        let mut bytes = Vec::new();
        open.read_to_end(&mut bytes).unwrap();
        assert!(*bytes == *image.rootfs.bytes, "the open file was changed");
        assert_nothing_left(&bench.cache());
    }
}

/// A pin that is added, an address that changes under it, a pin that is taken away again: the
/// same bytes are not fetched again.
#[test]
fn the_same_bytes_under_another_definition_are_a_hit() {
    let bench = Bench::new();
    let image = bench.publish("hello", 1);
    bench.manager([image.source(Pins::Without)]).ensure_image("hello").unwrap();
    let asked = bench.server.requests().len();
    let mirrored = Published {
        kernel: bench.part("/mirror/kernel", 2, 70_001),
        rootfs: bench.part("/mirror/rootfs", 3, 300_007),
        ..image.clone()
    };
    assert_eq!(mirrored.kernel.bytes, image.kernel.bytes);
    for source in
        [image.source(Pins::With), mirrored.source(Pins::With), image.source(Pins::Without)]
    {
        let manager = bench.manager([source]);
        assert!(manager.is_cached("hello"));
        manager.ensure_image("hello").unwrap();
        assert_eq!(bench.server.requests().len(), asked);
    }
}

/// Behaviour 19: a new definition of which one asset cannot be had leaves the earlier image whole.
#[test]
fn a_failed_swap_leaves_the_earlier_image() {
    for pins in Pins::BOTH {
        let bench = Bench::new();
        let image = bench.publish("hello", 1);
        bench.manager([image.source(pins)]).ensure_image("hello").unwrap();
        let mut changed = Published { name: "hello".to_owned(), ..bench.publish("new", 2) };
        changed.rootfs.url = bench.server.url("/no-such-file");
        let before = tree::list(&bench.cache().join("hello"));
        bench.manager([changed.source(pins)]).ensure_image("hello").unwrap_err();
        tree::assert_unchanged(&bench.cache().join("hello"), &before);

        let manager = bench.manager([image.source(pins)]);
        assert!(manager.is_cached("hello"), "{pins:?}");
        manager.ensure_image("hello").unwrap();
        assert_eq!(bench.server.hits(&image.kernel.path), 1);
    }
}

/// An image with an initrd, file names of its own and a command line.
#[test]
fn all_fields_of_a_definition() {
    for pins in Pins::BOTH {
        let bench = Bench::new();
        let image = bench.publish("hello", 1);
        let initrd = bench.part("/hello/initrd", 8, 90_001);
        let digest =
            |bytes: &[u8]| (pins == Pins::With).then(|| smolvm_testkit::content::sha256_hex(bytes));
        let source = ImageSource::builder("hello")
            .kernel(&image.kernel.url, digest(&image.kernel.bytes).as_deref())
            .rootfs(&image.rootfs.url, digest(&image.rootfs.bytes).as_deref())
            .initrd(&initrd.url, digest(&initrd.bytes).as_deref())
            .file_name(AssetKind::Kernel, "bzImage")
            .file_name(AssetKind::Rootfs, "disk.raw")
            .boot_args("console=ttyS0 ro")
            .build()
            .unwrap();
        let manager = bench.manager([source]);
        let found = manager.ensure_image("hello").unwrap();
        assert_eq!(found.kernel_path, bench.file("hello", "bzImage"));
        assert_eq!(found.rootfs_path, bench.file("hello", "disk.raw"));
        assert_eq!(found.initrd_path, Some(bench.file("hello", "initrd.img")));
        assert_eq!(found.boot_args.as_deref(), Some("console=ttyS0 ro"));
        for (path, part) in [
            (&found.kernel_path, &image.kernel),
            (&found.rootfs_path, &image.rootfs),
            (&found.initrd_path.unwrap(), &initrd),
        ] {
            assert!(*fs_err::read(path).unwrap() == *part.bytes);
            assert_eq!(path.metadata().unwrap().nlink(), 1);
        }

        tree::flip_bit(&bench.file("hello", "initrd.img"), 5);
        manager.ensure_image("hello").unwrap();
        assert!(*fs_err::read(bench.file("hello", "initrd.img")).unwrap() == *initrd.bytes);
        assert_eq!(bench.server.hits(&initrd.path), 2);
        assert_eq!(bench.server.requests().len(), 4);
        tree::remove_any(&bench.file("hello", "initrd.img"));
        assert!(!manager.is_cached("hello"), "an initrd is part of the image");
    }
}

/// An asset that gets another file name is linked to it, not fetched, and the old name goes.
#[test]
fn a_renamed_file_is_not_fetched_again() {
    let bench = Bench::new();
    let image = bench.publish("hello", 1);
    bench.manager([image.source(Pins::With)]).ensure_image("hello").unwrap();
    let asked = bench.server.requests().len();
    let renamed = ImageSource::builder("hello")
        .kernel(&image.kernel.url, Some(&image.kernel.digest()))
        .rootfs(&image.rootfs.url, Some(&image.rootfs.digest()))
        .file_name(AssetKind::Rootfs, "disk.raw")
        .build()
        .unwrap();
    let manager = bench.manager([renamed]);
    let local = manager.ensure_image("hello").unwrap();
    assert_eq!(fs_err::read(local.rootfs_path).unwrap(), *image.rootfs.bytes);
    assert!(!bench.file("hello", "rootfs.ext4").exists(), "the old name is still there");
    assert_eq!(bench.server.requests().len(), asked);
    assert_nothing_left(&bench.cache());
}
