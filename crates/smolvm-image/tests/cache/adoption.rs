//! Files that somebody put into the cache by hand, or that another version of the program left.

use smolvm_image::{ErrorKind, FetchOptions, ImageError};

use super::bench::{Bench, Heard, Pins};
use super::tree::{self, flip_bit, inode, remove_any};

/// Behaviour 8: files that match their pins, or have neither pin nor record, are taken as they
/// are. From then on they are recorded.
#[test]
fn files_put_there_by_hand_are_adopted() {
    for pins in Pins::BOTH {
        let bench = Bench::new();
        let image = bench.publish("hello", 1);
        let manager = bench.manager([image.source(pins)]);
        image.place_by_hand(&bench.cache());
        let inodes = image.parts().map(|(file, _)| inode(&bench.file("hello", file)));

        assert!(manager.is_cached("hello"), "{pins:?}");
        manager.ensure_image("hello").unwrap();
        assert!(bench.server.requests().is_empty(), "{pins:?}");
        assert_eq!(image.parts().map(|(file, _)| inode(&bench.file("hello", file))), inodes);

        let report = manager.inspect("hello").unwrap();
        let digests: Vec<_> = report.assets.iter().map(|a| a.digest.unwrap().to_string()).collect();
        assert_eq!(digests, [image.kernel.digest(), image.rootfs.digest()]);
        flip_bit(&bench.file("hello", "vmlinux.bin"), 1);
        manager.ensure_image("hello").unwrap();
        image.assert_in(&bench.cache());
        assert_eq!(bench.server.requests().len(), 1, "{pins:?}: later damage was not found");
    }
}

/// Behaviour 8: what does not match its pin is not adopted; what does, is.
#[test]
fn a_file_that_does_not_match_its_pin_is_fetched() {
    let bench = Bench::new();
    let image = bench.publish("hello", 1);
    let manager = bench.manager([image.source(Pins::With)]);
    image.place_by_hand(&bench.cache());
    let other = bench.publish("other", 2).rootfs.bytes;
    fs_err::write(bench.file("hello", "rootfs.ext4"), &other).unwrap();

    manager.ensure_image("hello").unwrap();
    image.assert_in(&bench.cache());
    assert_eq!(bench.server.hits(&image.kernel.path), 0);
    assert_eq!(bench.server.hits(&image.rootfs.path), 1);
}

/// Behaviour 8: without a pin, a file that is not the one that was recorded is not adopted.
#[test]
fn a_file_that_does_not_match_its_record_is_fetched() {
    let bench = Bench::new();
    let image = bench.publish("hello", 1);
    let manager = bench.manager([image.source(Pins::Without)]);
    manager.ensure_image("hello").unwrap();
    let path = bench.file("hello", "rootfs.ext4");
    remove_any(&path);
    fs_err::write(&path, &bench.publish("other", 2).rootfs.bytes).unwrap();

    manager.ensure_image("hello").unwrap();
    image.assert_in(&bench.cache());
    assert_eq!(bench.server.hits(&image.kernel.path), 1);
    assert_eq!(bench.server.hits(&image.rootfs.path), 2);
}

/// Behaviours 8 and 29: an empty file or an error page is nothing to adopt.
#[test]
fn an_error_page_is_not_adopted() {
    for page in [&b""[..], b"<!DOCTYPE html><title>404</title>", b"{\"error\": \"no\"}"] {
        let bench = Bench::new();
        let image = bench.publish("hello", 1);
        let manager = bench.manager([image.source(Pins::Without)]);
        image.place_by_hand(&bench.cache());
        fs_err::write(bench.file("hello", "vmlinux.bin"), page).unwrap();
        manager.ensure_image("hello").unwrap();
        image.assert_in(&bench.cache());
        assert_eq!(bench.server.hits(&image.kernel.path), 1);
        assert_eq!(bench.server.hits(&image.rootfs.path), 0);
    }
}

/// Behaviour 35: a cache of a version that kept neither records nor state is used as it is.
#[test]
fn a_cache_without_records_is_adopted() {
    for pins in Pins::BOTH {
        let bench = Bench::new();
        let images = [bench.publish("one", 1), bench.publish("two", 2)];
        let manager = bench.manager(images.iter().map(|image| image.source(pins)));
        for image in &images {
            manager.ensure_image(&image.name).unwrap();
            remove_any(&bench.file(&image.name, "image.json"));
        }
        remove_any(&bench.cache().join(".state"));
        let asked = bench.server.requests().len();
        let files = || {
            let mut files = tree::list(&bench.cache());
            files.retain(|path, _| path.extension().is_some_and(|e| e == "bin" || e == "ext4"));
            files
        };
        let before = files();
        assert_eq!(before.len(), 4);
        for image in &images {
            assert!(manager.is_cached(&image.name));
            manager.ensure_image(&image.name).unwrap();
            assert!(bench.file(&image.name, "image.json").is_file());
        }
        assert_eq!(bench.server.requests().len(), asked, "{pins:?}");
        assert_eq!(files(), before, "{pins:?}");
    }
}

/// Behaviour 35: in a cache of a newer version, hits are served; whatever would write to it is
/// refused, with nothing changed.
#[test]
fn a_newer_cache_is_left_alone() {
    for pins in Pins::BOTH {
        let bench = Bench::new();
        let (image, by_hand) = (bench.publish("hello", 1), bench.publish("by-hand", 2));
        let (absent, hurt) = (bench.publish("absent", 3), bench.publish("hurt", 4));
        let sources = [&image, &by_hand, &absent, &hurt].map(|image| image.source(pins));
        let manager = bench.manager(sources);
        manager.ensure_image("hello").unwrap();
        manager.ensure_image("hurt").unwrap();
        by_hand.place_by_hand(&bench.cache());
        flip_bit(&bench.file("hurt", "rootfs.ext4"), 9);
        fs_err::write(bench.cache().join(".state/partial/of-a-newer-version"), b"x").unwrap();
        fs_err::write(bench.cache().join(".state/version"), b"2\n").unwrap();
        let (before, asked) = (tree::list(&bench.cache()), bench.server.requests().len());

        for hit in [&image, &by_hand] {
            assert!(manager.is_cached(&hit.name));
            manager.ensure_image(&hit.name).unwrap();
            hit.assert_in(&bench.cache());
        }
        let options = Heard::default().options();
        for error in [
            manager.ensure_image("absent").unwrap_err(),
            manager.ensure_image("hurt").unwrap_err(),
            manager.remove("hello", &options).unwrap_err(),
            manager.prune(false, &FetchOptions::new()).unwrap_err(),
            manager.prune(true, &FetchOptions::new()).unwrap_err(),
        ] {
            assert!(
                matches!(&error, ImageError::NewerLayout { found, known: 1, .. } if found == "2"),
                "{error}"
            );
            assert_eq!(error.kind(), ErrorKind::Cache);
            assert!(error.to_string().contains(&*bench.cache().to_string_lossy()), "{error}");
        }
        tree::assert_unchanged(&bench.cache(), &before);
        assert_eq!(bench.server.requests().len(), asked, "{pins:?}");
    }
}

/// Behaviour 35: a record of a newer version, which this one cannot read, is not overwritten. A
/// hit is served where there is a pin (without one nothing vouches for it), a fetch is refused.
#[test]
fn a_newer_record_is_left_alone() {
    for pins in Pins::BOTH {
        let bench = Bench::new();
        let image = bench.publish("hello", 1);
        let manager = bench.manager([image.source(pins)]);
        manager.ensure_image("hello").unwrap();
        let path = bench.file("hello", "image.json");
        remove_any(&path);
        fs_err::write(&path, b"{\"version\": 2, \"digests\": []}").unwrap();
        let directory = bench.cache().join("hello");
        let before = tree::list(&directory);
        let result = manager.ensure_image("hello");
        match pins {
            Pins::With => drop(result.unwrap()),
            Pins::Without => assert!(matches!(result, Err(ImageError::NewerLayout { .. }))),
        }
        tree::assert_unchanged(&directory, &before);

        remove_any(&directory.join("vmlinux.bin"));
        let before = tree::list(&directory);
        let error = manager.ensure_image("hello").unwrap_err();
        assert!(matches!(error, ImageError::NewerLayout { .. }), "{error}");
        assert!(error.to_string().contains(&*path.to_string_lossy()), "{error}");
        tree::assert_unchanged(&directory, &before);
        assert_eq!(bench.server.requests().len(), 2, "what may not be published is not fetched");
    }
}

/// Behaviour 35: of a newer record, what this version understands is used.
#[test]
fn a_newer_record_is_read_as_far_as_it_is_understood() {
    let bench = Bench::new();
    let image = bench.publish("hello", 1);
    let manager = bench.manager([image.source(Pins::Without)]);
    manager.ensure_image("hello").unwrap();
    let path = bench.file("hello", "image.json");
    let text = fs_err::read_to_string(&path).unwrap();
    let newer = text.replacen("\"version\": 1,", "\"version\": 2, \"of_the_future\": [],", 1);
    assert_ne!(text, newer);
    remove_any(&path);
    fs_err::write(&path, newer).unwrap();
    manager.ensure_image("hello").unwrap();
    flip_bit(&bench.file("hello", "rootfs.ext4"), 7);
    let error = manager.ensure_image("hello").unwrap_err();
    assert!(matches!(error, ImageError::NewerLayout { .. }), "{error}");
    assert_eq!(bench.server.requests().len(), 2);
}
