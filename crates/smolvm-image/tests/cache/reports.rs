//! What `verify`, `inspect` and `pin` say of an image.

use std::os::unix::fs::MetadataExt as _;

use smolvm_image::{AssetKind, AssetStatus, FetchOptions, ImageError, ImageReport, Registry};

use super::bench::{Bench, Pins, assert_nothing_left, manager_of, manager_with};
use super::tree;

fn statuses(report: &ImageReport) -> Vec<(AssetKind, &AssetStatus)> {
    report.assets.iter().map(|asset| (asset.kind, &asset.status)).collect()
}

/// Behaviour 3: `verify` tells what matches its pin from what matches only its record, what is
/// damaged from what is missing, and changes nothing.
#[test]
fn verify_tells_the_state_of_each_asset() {
    for (pins, good) in
        [(Pins::With, AssetStatus::Verified), (Pins::Without, AssetStatus::Unpinned)]
    {
        let bench = Bench::new();
        let image = bench.publish("hello", 1);
        let manager = bench.manager([image.source(pins)]);
        let verify = || manager.verify("hello", &FetchOptions::new()).unwrap();
        assert!(verify().assets.iter().all(|asset| asset.status == AssetStatus::Missing));
        manager.ensure_image("hello").unwrap();
        let report = verify();
        assert_eq!(statuses(&report), [(AssetKind::Kernel, &good), (AssetKind::Rootfs, &good)]);
        assert!(report.cached);
        for (asset, (file, part)) in report.assets.iter().zip(image.parts()) {
            assert_eq!(asset.path, bench.file("hello", file));
            assert_eq!(asset.digest.unwrap().to_string(), part.digest());
            assert_eq!(asset.size, Some(part.len()));
            assert_eq!(asset.url.as_deref(), Some(&*part.url));
            assert_eq!(asset.pin.is_some(), pins == Pins::With);
            assert!(asset.fetched_at.is_some());
        }

        tree::flip_bit(&bench.file("hello", "vmlinux.bin"), 70_000);
        tree::remove_any(&bench.file("hello", "rootfs.ext4"));
        let before = tree::list(&bench.cache());
        let report = verify();
        let [kernel, rootfs] = &report.assets[..] else { panic!("{report:?}") };
        assert!(matches!(kernel.status, AssetStatus::Damaged { .. }), "{report:?}");
        assert_eq!(rootfs.status, AssetStatus::Missing);
        assert!(!report.cached);
        tree::assert_unchanged(&bench.cache(), &before);
        assert_eq!(bench.server.requests().len(), 2);
    }
}

/// Behaviour 36: `inspect` counts an image as the disk does.
#[test]
fn inspect_counts_as_the_disk_does() {
    let bench = Bench::new();
    let image = bench.publish("hello", 1);
    bench.manager([image.source(Pins::Without)]).ensure_image("hello").unwrap();
    let directory = bench.cache().join("hello");
    let files = fs_err::read_dir(&directory).unwrap();
    let blocks: u64 = files.map(|file| file.unwrap().metadata().unwrap().blocks()).sum();
    let blocks = blocks + directory.metadata().unwrap().blocks();
    // Whether the registry knows the image or only the cache does.
    for manager in [bench.manager([image.source(Pins::Without)]), manager_of(&bench.cache(), [])] {
        let report = manager.inspect("hello").unwrap();
        assert_eq!(report.disk_bytes, blocks * 512);
        assert_eq!(report.directory, directory);
        assert!(report.cached);
        assert!(report.assets.iter().all(|asset| asset.status == AssetStatus::Present));
    }
    assert_eq!(manager_of(&bench.cache(), []).cached_names().unwrap(), ["hello"]);
}

/// Behaviour 3: what `pin` gives loads back as a registry, and is a hit; damage is not pinned.
#[test]
fn pinning_a_cached_image() {
    let bench = Bench::new();
    let image = bench.publish("hello", 1);
    let manager = bench.manager([image.source(Pins::Without)]);
    let options = FetchOptions::new();
    assert!(matches!(manager.pin("hello", &options), Err(ImageError::NotCached { .. })));
    manager.ensure_image("hello").unwrap();

    let pinned = manager.pin("hello", &options).unwrap();
    let file = bench.directory().join("registry.toml");
    fs_err::write(&file, pinned.to_registry_toml()).unwrap();
    let registry = Registry::load(&file).unwrap();
    let loaded = registry.get("hello").unwrap();
    for (asset, (_, part)) in loaded.assets().zip(image.parts()) {
        assert_eq!(asset.digest.unwrap().to_string(), part.digest());
    }
    let later = manager_with(&bench.cache(), registry);
    assert!(later.is_cached("hello"));
    later.ensure_image("hello").unwrap();
    assert_eq!(bench.server.requests().len(), 2);

    tree::flip_bit(&bench.file("hello", "rootfs.ext4"), 0);
    assert!(matches!(manager.pin("hello", &options), Err(ImageError::Damaged { .. })));
    later.ensure_image("hello").unwrap();
    image.assert_in(&bench.cache());
    assert_nothing_left(&bench.cache());
}
