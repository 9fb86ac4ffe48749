//! When what is cached is hashed: always, or only where it may have changed.

use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use smolvm_image::{AssetKind, Event, ImageManager, ImageSource, Registry, VerifyPolicy};
use smolvm_testkit::content::sha256_hex;

use super::bench::{Bench, Heard, Pins, Published};

/// A manager that hashes only what may have changed.
fn manager(bench: &Bench, source: ImageSource) -> ImageManager {
    builder(bench, source).build().unwrap()
}

fn builder(bench: &Bench, source: ImageSource) -> smolvm_image::ImageManagerBuilder {
    ImageManager::builder()
        .cache_dir(bench.cache())
        .registry(Registry::from_iter([source]))
        .verify(VerifyPolicy::Changed)
}

/// Ensures the image; says of which assets bytes were hashed in the cache.
fn hashed(manager: &ImageManager) -> Vec<AssetKind> {
    let heard = Heard::default();
    manager.ensure_image_with("hello", &heard.options()).unwrap();
    heard.kinds(|event| matches!(event, Event::Verifying { .. }))
}

/// Changes one byte of a file, and neither its size, its mode nor its modification time.
fn damage(path: &Path) {
    let metadata = fs_err::metadata(path).unwrap();
    fs_err::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let file = fs_err::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.file().read_exact_at(&mut byte, 1000).unwrap();
    file.file().write_all_at(&[byte[0] ^ 1], 1000).unwrap();
    file.file().set_modified(metadata.modified().unwrap()).unwrap();
    fs_err::set_permissions(path, metadata.permissions()).unwrap();
}

fn stamps_of(bench: &Bench) -> PathBuf {
    let directory = bench.cache().join("hello");
    let mut names = fs_err::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    names.find(|path| path.to_string_lossy().contains("/.verified-")).unwrap()
}

/// Writes stamps that are whole, as somebody who knows the format would.
fn rewrite(stamps: &Path, change: impl FnOnce(String) -> String) {
    let text = fs_err::read_to_string(stamps).unwrap();
    let (_, body) = text.split_once('\n').unwrap();
    let body = change(body.to_owned());
    fs_err::write(stamps, format!("{}\n{body}", sha256_hex(body.as_bytes()))).unwrap();
}

const BOTH: [AssetKind; 2] = [AssetKind::Kernel, AssetKind::Rootfs];

#[test]
fn what_has_not_changed_is_not_hashed_in_this_process_or_another() {
    for pins in Pins::BOTH {
        let bench = Bench::new();
        let image = bench.publish("hello", 1);
        let first = manager(&bench, image.source(pins));
        first.ensure_image("hello").unwrap();
        assert_eq!(hashed(&first), [], "{pins:?}");
        assert_eq!(hashed(&manager(&bench, image.source(pins))), [], "{pins:?}");
        assert_eq!(bench.server.requests().len(), 2);
        // The usual policy hashes all the same.
        assert_eq!(hashed(&bench.manager([image.source(pins)])), BOTH);
    }
}

#[test]
fn what_was_cached_under_the_usual_policy_is_hashed_once() {
    let bench = Bench::new();
    let image = bench.publish("hello", 1);
    bench.manager([image.source(Pins::With)]).ensure_image("hello").unwrap();
    // Files that have just come may change once more in the same tick of the clock.
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert_eq!(hashed(&manager(&bench, image.source(Pins::With))), BOTH);
    assert_eq!(hashed(&manager(&bench, image.source(Pins::With))), []);
}

/// Behaviour 6, under the policy that hashes only what may have changed. A second change in the
/// same tick of the clock as the fetch is one of those that must show.
#[test]
fn a_changed_byte_is_found_however_soon_it_changes() {
    for pins in Pins::BOTH {
        let bench = Bench::new();
        let image = bench.publish("hello", 1);
        let manager = manager(&bench, image.source(pins));
        for round in 1..=20 {
            manager.ensure_image("hello").unwrap();
            damage(&bench.file("hello", "rootfs.ext4"));
            manager.ensure_image("hello").unwrap();
            image.assert_in(&bench.cache());
            assert_eq!(bench.server.hits(&image.rootfs.path), 1 + round, "{pins:?}");
        }
        assert_eq!(bench.server.hits(&image.kernel.path), 1);
    }
}

#[test]
fn a_file_in_the_place_of_another_is_hashed() {
    let bench = Bench::new();
    let image = bench.publish("hello", 1);
    let manager = manager(&bench, image.source(Pins::With));
    manager.ensure_image("hello").unwrap();
    let path = bench.file("hello", "vmlinux.bin");
    fs_err::copy(&path, path.with_extension("copy")).unwrap();
    fs_err::rename(path.with_extension("copy"), &path).unwrap();
    assert_eq!(hashed(&manager), BOTH);
    assert_eq!(bench.server.requests().len(), 2, "the bytes were right");

    fs_err::remove_file(&path).unwrap();
    manager.ensure_image("hello").unwrap();
    image.assert_in(&bench.cache());
}

#[test]
fn another_pin_is_another_image() {
    let bench = Bench::new();
    let (old, new) = (bench.publish("hello", 1), bench.publish("other", 2));
    manager(&bench, old.source(Pins::With)).ensure_image("hello").unwrap();
    let renamed = Published { name: "hello".to_owned(), ..new };
    manager(&bench, renamed.source(Pins::With)).ensure_image("hello").unwrap();
    renamed.assert_in(&bench.cache());
}

#[test]
fn stamps_that_are_damaged_forged_or_open_to_others_count_as_nothing() {
    let bench = Bench::new();
    let image = bench.publish("hello", 1);
    let new_process = || manager(&bench, image.source(Pins::With));
    new_process().ensure_image("hello").unwrap();
    let stamps = stamps_of(&bench);
    let restore = || {
        assert_eq!(hashed(&new_process()), BOTH);
        assert_eq!(hashed(&new_process()), []);
    };

    let text = fs_err::read_to_string(&stamps).unwrap();
    let changed = text.replace("\"synced\":false", "\"synced\":true");
    assert_ne!(changed, text);
    fs_err::write(&stamps, changed).unwrap();
    restore();
    for damaged in ["", "\n", "no stamps\n{}", &text[..text.len() / 2]] {
        fs_err::write(&stamps, damaged).unwrap();
        restore();
    }
    fs_err::set_permissions(&stamps, std::fs::Permissions::from_mode(0o622)).unwrap();
    restore();
    fs_err::remove_file(&stamps).unwrap();
    std::os::unix::fs::symlink("/dev/zero", &stamps).unwrap();
    restore();
}

/// After a power loss a file may have the right size and times, and nothing in it.
#[test]
fn a_stamp_of_an_earlier_boot_counts_only_for_a_file_that_was_on_the_disk_by_then() {
    let bench = Bench::new();
    let image = bench.publish("hello", 1);
    let other_boot = |text: String| {
        let (before, rest) = text.split_once("\"boot_id\":\"").unwrap();
        let end = rest.find('"').unwrap();
        let this_boot = rest[..end].to_owned();
        format!("{before}\"boot_id\":\"{rest}").replace(&this_boot, "an-earlier-boot")
    };
    for (sync, expected) in [(false, &BOTH[..]), (true, &[])] {
        let new_process = || builder(&bench, image.source(Pins::With)).sync(sync).build().unwrap();
        let _ = std::fs::remove_dir_all(bench.cache());
        new_process().ensure_image("hello").unwrap();
        rewrite(&stamps_of(&bench), other_boot);
        assert_eq!(hashed(&new_process()), expected, "sync: {sync}");
    }
}

/// A process that lives on syncs what it has fetched or hashed, so that its stamps count after the
/// next boot as well.
#[test]
fn what_a_process_has_that_lives_on_is_synced_in_a_while() {
    let bench = Bench::new();
    let image = bench.publish("hello", 1);
    let is_synced = || {
        let text = fs_err::read_to_string(stamps_of(&bench)).unwrap();
        assert_eq!(text.matches("\"synced\":").count(), 2, "{text}");
        text.matches("\"synced\":true").count() == 2
    };
    let wait = || {
        let patience = Instant::now() + Duration::from_mins(1);
        while !is_synced() {
            assert!(Instant::now() < patience, "it is not synced");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    manager(&bench, image.source(Pins::With)).ensure_image("hello").unwrap();
    assert!(!is_synced(), "nobody has waited for it");
    wait();
    assert_eq!(hashed(&manager(&bench, image.source(Pins::With))), []);
    // What somebody else has put there is synced after it was hashed.
    fs_err::remove_file(stamps_of(&bench)).unwrap();
    assert_eq!(hashed(&manager(&bench, image.source(Pins::With))), BOTH);
    wait();
}

/// A file that is there by then under the same name is not said to be synced.
#[test]
fn what_was_noted_anew_meanwhile_is_left_alone() {
    let bench = Bench::new();
    let image = bench.publish("hello", 1);
    manager(&bench, image.source(Pins::With)).ensure_image("hello").unwrap();
    let other = |text: String| text.replacen("\"size\":", "\"size\":1", 1);
    rewrite(&stamps_of(&bench), other);
    // Its turn comes after the first one's.
    let second = bench.publish("second", 2);
    builder(&bench, second.source(Pins::With)).build().unwrap().ensure_image("second").unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    let text = fs_err::read_to_string(stamps_of(&bench)).unwrap();
    assert!(!text.contains("\"synced\":true"), "{text}");
}
