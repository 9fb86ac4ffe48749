//! Images that are held open, and images that are found by the path of their kernel.

use std::fs::Permissions;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;

use fs_err as fs;
use smolvm_image::{FetchOptions, LocalImage};

use super::bench::{Bench, Pins};

/// Whether it was fetched just now or cached before, the files are the verified ones, and stay
/// them when others are put in their places.
#[test]
fn what_was_verified_stays_open() {
    for pins in Pins::BOTH {
        let bench = Bench::new();
        let image = bench.publish("hello", 1);
        let manager = bench.manager([image.source(pins)]);
        let fetched = manager.open_image("hello", &FetchOptions::default()).unwrap();
        let cached = manager.open_image("hello", &FetchOptions::default()).unwrap();
        let content = fs::read(&cached.rootfs_path).unwrap();
        fs::remove_file(&cached.rootfs_path).unwrap();
        fs::write(&cached.rootfs_path, b"another").unwrap();
        for open in [fetched, cached] {
            let mut seen = Vec::new();
            open.rootfs().read_to_end(&mut seen).unwrap();
            assert_eq!(seen, content, "{pins:?}");
            assert!(open.rootfs().write_all(b"x").is_err(), "{pins:?}: it can be written to");
            assert!(open.kernel().write_all(b"x").is_err(), "{pins:?}: it can be written to");
            assert!(open.initrd().is_none());
        }
    }
}

#[test]
fn an_image_is_found_by_its_kernel() {
    let bench = Bench::new();
    let image = bench.publish("hello", 1);
    let cached = bench.manager([image.source(Pins::With)]).ensure_image("hello").unwrap();
    assert_eq!(LocalImage::of_kernel(&cached.kernel_path).as_ref(), Some(&cached));
    assert_eq!(LocalImage::of_kernel(&cached.rootfs_path), None, "a rootfs is no kernel");

    let directory = cached.kernel_path.parent().unwrap();
    fs::set_permissions(directory, Permissions::from_mode(0o770)).unwrap();
    assert_eq!(LocalImage::of_kernel(&cached.kernel_path), None, "others may write there");
    fs::set_permissions(directory, Permissions::from_mode(0o700)).unwrap();
    fs::write(directory.join("image.json"), b"{").unwrap();
    assert_eq!(LocalImage::of_kernel(&cached.kernel_path), None, "its record is damaged");
}
