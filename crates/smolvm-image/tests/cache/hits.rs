//! What is cached is used as it is: nobody is asked, nothing is written.

use std::path::Path;

use smolvm_image::{ErrorKind, Event, ImageError, ImageManager, Registry};
use smolvm_testkit::SmallDisk;

use super::bench::{Bench, Heard, Pins, Published, assert_nothing_left, manager_of};
use super::log_capture;
use super::other_process::{Call, Order, Said, can_become_others};
use super::tree;

/// Behaviour 5: a hit makes no request, and needs no server.
#[test]
fn a_hit_asks_nobody() {
    for pins in Pins::BOTH {
        let bench = Bench::new();
        let image = bench.publish("hello", 1);
        let manager = bench.manager([image.source(pins)]);
        let first = manager.ensure_image("hello").unwrap();
        let asked = bench.server.requests().len();
        assert_eq!(asked, 2, "{pins:?}");

        let heard = Heard::default();
        let second = manager.ensure_image_with("hello", &heard.options()).unwrap();
        assert_eq!(second, first);
        assert_eq!(heard.kinds(|event| matches!(event, Event::Cached { .. })).len(), 2);
        assert_eq!(bench.server.requests().len(), asked, "{pins:?}: a hit made a request");

        let cache = bench.cache();
        let later = bench.manager([image.source(pins)]);
        let Bench { server, temp: _temp } = bench;
        drop(server);
        assert_eq!(later.ensure_image("hello").unwrap(), first);
        image.assert_in(&cache);
    }
}

/// Behaviour 5: paths are absolute, and those that are documented.
#[test]
fn the_paths_are_the_documented_ones() {
    let bench = Bench::new();
    let image = bench.publish("hello", 1);
    let found = bench.manager([image.source(Pins::With)]).ensure_image("hello").unwrap();
    assert_eq!(found.kernel_path, bench.cache().join("hello/vmlinux.bin"));
    assert_eq!(found.rootfs_path, bench.cache().join("hello/rootfs.ext4"));
    assert!(found.kernel_path.is_absolute());
}

/// Behaviour 9: to look makes nothing, neither where there is no cache nor where there is one,
/// and asks nobody.
#[test]
fn looking_makes_nothing() {
    let bench = Bench::new();
    let image = bench.publish("hello", 1);
    let manager =
        bench.manager([image.source(Pins::With), bench.publish("other", 2).source(Pins::With)]);

    let look = || {
        assert_eq!(manager.list_available(), ["hello", "other"]);
        assert!(!manager.is_cached("other"));
        assert!(!manager.is_cached("nobody"));
        for no_name in ["", " ", "..", "a/b", "/etc", "\0", "hello\n"] {
            assert!(!manager.is_cached(no_name), "{no_name:?}");
        }
        assert!(matches!(manager.locate("other"), Err(ImageError::NotCached { .. })));
        assert!(!manager.inspect("other").unwrap().cached);
        assert!(!manager.verify("other", &Heard::default().options()).unwrap().cached);
        manager.is_cached("hello")
    };
    assert!(!look());
    assert!(!bench.cache().exists(), "to look has made the cache directory");
    assert!(bench.server.requests().is_empty());

    manager.ensure_image("hello").unwrap();
    let (before, asked) = (tree::list(&bench.cache()), bench.server.requests().len());
    assert!(look());
    tree::assert_unchanged(&bench.cache(), &before);
    assert_eq!(bench.server.requests().len(), asked);
}

/// Behaviour 10: a file system that is mounted read-only serves hits, also of files that nothing
/// is recorded of; a miss is an error that says so.
#[test]
fn a_read_only_file_system_serves_hits() {
    let Some(disk) = SmallDisk::new(4 << 20) else { return };
    let bench = Bench::new();
    let cache = disk.path().join("cache");
    let (pinned, unpinned) = (bench.publish("pinned", 1), bench.publish("unpinned", 2));
    let by_hand = bench.publish("by-hand", 3);
    let manager = manager_of(
        &cache,
        [
            pinned.source(Pins::With),
            unpinned.source(Pins::Without),
            by_hand.source(Pins::With),
            bench.publish("absent", 4).source(Pins::With),
        ],
    );
    manager.ensure_image("pinned").unwrap();
    manager.ensure_image("unpinned").unwrap();
    by_hand.place_by_hand(&cache);
    disk.remount_read_only();

    let (before, asked) = (tree::list(&cache), bench.server.requests().len());
    for image in [&pinned, &unpinned, &by_hand] {
        assert!(manager.is_cached(&image.name));
        manager.ensure_image(&image.name).unwrap();
        image.assert_in(&cache);
    }
    assert_eq!(bench.server.requests().len(), asked);

    let error = manager.ensure_image("absent").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cache, "{error}");
    assert!(error.to_string().contains("The cache is read-only"), "{error}");
    assert!(error.to_string().contains(&*cache.to_string_lossy()), "{error}");
    assert_eq!(bench.server.requests().len(), asked, "what cannot be stored was asked for");
    tree::assert_unchanged(&cache, &before);
}

/// Behaviour 10: another user's cache, which may be read and not be written to, serves hits.
#[test]
fn another_users_cache_serves_hits() {
    if !can_become_others() {
        return;
    }
    for pins in Pins::BOTH {
        let bench = Bench::new();
        let image = bench.publish("hello", 1);
        bench.manager([image.source(pins)]).ensure_image("hello").unwrap();
        let absent = bench.publish("absent", 2).source(pins);
        let_all_read(&bench.cache());
        let (before, asked) = (tree::list(&bench.cache()), bench.server.requests().len());

        let order = Order::ensure(&bench, &image.source(pins));
        let cached = order.clone().call(Call::IsCached).start_as(NOBODY, NOBODY).outcome();
        assert_eq!(cached, Said::Cached(true));
        order.start_as(NOBODY, NOBODY).expect_image();
        assert_eq!(bench.server.requests().len(), asked);

        let failed = Order::ensure(&bench, &absent).start_as(NOBODY, NOBODY).expect_failure();
        assert_eq!(failed.0, "Cache", "{}", failed.1);
        assert!(failed.1.contains(&*bench.cache().to_string_lossy()), "{}", failed.1);
        tree::assert_unchanged(&bench.cache(), &before);
    }
}

/// A user that owns nothing.
const NOBODY: u32 = 65534;

fn let_all_read(directory: &Path) {
    for (path, entry) in tree::list(directory) {
        tree::chmod(&directory.join(path), if entry.is_dir() { 0o755 } else { 0o444 });
    }
}

/// Behaviours 24 and 32: what another image in the cache has needs no network.
#[test]
fn offline_takes_what_another_image_has() {
    let bench = Bench::new();
    let image = bench.publish("one", 1);
    bench.manager([image.source(Pins::With)]).ensure_image("one").unwrap();
    let asked = bench.server.requests().len();
    let twin = Published { name: "twin".to_owned(), ..image.clone() };
    let manager = ImageManager::builder()
        .cache_dir(bench.cache())
        .registry(Registry::from_iter([twin.source(Pins::With)]))
        .offline(true)
        .build()
        .unwrap();
    manager.ensure_image("twin").unwrap();
    twin.assert_in(&bench.cache());
    assert_eq!(bench.server.requests().len(), asked);
    assert_nothing_left(&bench.cache());
}

/// Behaviour 3: that nothing is checked is said once, and not at all where there are pins.
#[test]
fn a_missing_pin_is_warned_of_once() {
    log_capture::listen();
    for (name, pins, warnings) in [("unpinned", Pins::Without, 1), ("pinned", Pins::With, 0)] {
        let bench = Bench::new();
        let image = bench.publish(name, 1);
        for _ in 0..2 {
            bench.manager([image.source(pins)]).ensure_image(name).unwrap();
            tree::remove_any(&bench.cache().join(name));
        }
        let said = log_capture::lines_with(&format!("'{name}' has no SHA-256 digest"));
        assert_eq!(said.len(), warnings, "{said:?}");
        assert!(said.iter().all(|line| line.starts_with("WARN") && line.contains("image pin")));
    }
}
