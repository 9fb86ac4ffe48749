//! What is wrong in the cache is found before anybody gets it, and fetched again, that alone.

use std::path::Path;
use std::process::Command;

use smolvm_image::{AssetKind, Event};

use super::bench::{Bench, Heard, Pins, assert_nothing_left};
use super::other_process::{Call, Order, Said, can_become_others};
use super::tree::{self, chmod, flip_bit, inode, remove_any};

/// Behaviours 6, 3 and 28: one flipped bit, with the size and the times as they were, is found,
/// by the pin or by the digest that was recorded; the other asset stays as it is.
#[test]
fn one_flipped_bit_is_found() {
    for pins in Pins::BOTH {
        let bench = Bench::new();
        let image = bench.publish("hello", 1);
        let manager = bench.manager([image.source(pins)]);
        manager.ensure_image("hello").unwrap();

        let mut fetches = [1, 1];
        for (hurt, good) in [(0, 1), (1, 0)] {
            let (file, part) = image.parts()[hurt];
            let (good_file, good_part) = image.parts()[good];
            for offset in [0, part.len() / 2, part.len() - 1] {
                let good_inode = inode(&bench.file("hello", good_file));
                flip_bit(&bench.file("hello", file), offset);
                // It looks at sizes: that it does not see this shows that it hashes nothing.
                assert!(manager.is_cached("hello"));

                let heard = Heard::default();
                manager.ensure_image_with("hello", &heard.options()).unwrap();
                image.assert_in(&bench.cache());
                fetches[hurt] += 1;
                let what = format!("{pins:?}, {file} at {offset}");
                assert_eq!(bench.server.hits(&part.path), fetches[hurt], "{what}");
                assert_eq!(bench.server.hits(&good_part.path), fetches[good], "{what}");
                assert_eq!(inode(&bench.file("hello", good_file)), good_inode, "{what}");
                let damaged = heard.kinds(|event| matches!(event, Event::Damaged { .. }));
                assert_eq!(damaged, [[AssetKind::Kernel, AssetKind::Rootfs][hurt]], "{what}");
                assert_nothing_left(&bench.cache());
            }
        }
    }
}

/// Behaviour 3: what came without a pin is checked against what was seen then, by `verify` too.
#[test]
fn a_recorded_digest_finds_later_damage() {
    let bench = Bench::new();
    let image = bench.publish("hello", 1);
    let manager = bench.manager([image.source(Pins::Without)]);
    manager.ensure_image("hello").unwrap();
    let good = manager.verify("hello", &Heard::default().options()).unwrap();
    assert!(good.assets.iter().all(|asset| asset.status.is_good()), "{good:?}");

    flip_bit(&bench.file("hello", "rootfs.ext4"), 150_000);
    let bad = manager.verify("hello", &Heard::default().options()).unwrap();
    let of = |kind| bad.assets.iter().find(|asset| asset.kind == kind).unwrap();
    assert!(of(AssetKind::Kernel).status.is_good());
    assert!(!of(AssetKind::Rootfs).status.is_good());
    assert!(!bad.cached);
    assert_eq!(bench.server.requests().len(), 2, "to verify asks nobody");
}

/// What can lie under a final name instead of the asset.
#[derive(Clone, Copy, Debug)]
enum Damage {
    Truncated,
    Extended,
    Empty,
    Missing,
    Directory,
    FullDirectory,
    Fifo,
    Socket,
}

impl Damage {
    const ALL: [Self; 8] = [
        Self::Truncated,
        Self::Extended,
        Self::Empty,
        Self::Missing,
        Self::Directory,
        Self::FullDirectory,
        Self::Fifo,
        Self::Socket,
    ];

    fn do_to(self, path: &Path) {
        let bytes = fs_err::read(path).unwrap();
        remove_any(path);
        match self {
            Self::Truncated => fs_err::write(path, &bytes[..bytes.len() - 1]).unwrap(),
            Self::Extended => fs_err::write(path, [&bytes[..], b"!"].concat()).unwrap(),
            Self::Empty => fs_err::write(path, b"").unwrap(),
            Self::Missing => {}
            Self::Directory => fs_err::create_dir(path).unwrap(),
            Self::FullDirectory => {
                fs_err::create_dir_all(path.join("a/b")).unwrap();
                fs_err::write(path.join("a/file"), bytes).unwrap();
            }
            Self::Fifo => {
                assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
            }
            Self::Socket => {
                std::os::unix::net::UnixListener::bind(path).unwrap();
            }
        }
    }
}

/// Behaviour 7: none of these counts as cached, and each is replaced by what belongs there.
#[test]
fn what_is_no_whole_file_is_not_cached() {
    for pins in Pins::BOTH {
        let bench = Bench::new();
        let image = bench.publish("hello", 1);
        let manager = bench.manager([image.source(pins)]);
        manager.ensure_image("hello").unwrap();
        let mut fetches = [1, 1];
        for damage in Damage::ALL {
            for hurt in [0, 1] {
                let (file, _) = image.parts()[hurt];
                damage.do_to(&bench.file("hello", file));
                let what = format!("{pins:?}, {damage:?} {file}");
                assert!(!manager.is_cached("hello"), "{what} counts as cached");
                assert!(manager.locate("hello").is_err(), "{what}");

                manager.ensure_image("hello").unwrap();
                image.assert_in(&bench.cache());
                fetches[hurt] += 1;
                for (nth, (_, part)) in image.parts().iter().enumerate() {
                    assert_eq!(bench.server.hits(&part.path), fetches[nth], "{what}");
                }
                assert_nothing_left(&bench.cache());
            }
        }
    }
}

/// Behaviour 7: a file that its user may not read is not cached, and replaced.
#[test]
fn an_unreadable_file_is_not_cached() {
    if !can_become_others() {
        return;
    }
    let user = 61_001;
    for pins in Pins::BOTH {
        let bench = Bench::new();
        let image = bench.publish("hello", 1);
        let order = Order::ensure(&bench, &image.source(pins));
        fs_err::create_dir(bench.cache()).unwrap();
        std::os::unix::fs::chown(bench.cache(), Some(user), Some(user)).unwrap();
        order.start_as(user, user).expect_image();

        chmod(&bench.file("hello", "vmlinux.bin"), 0);
        let is_cached = || order.clone().call(Call::IsCached).start_as(user, user).outcome();
        assert_eq!(is_cached(), Said::Cached(false));
        order.start_as(user, user).expect_image();
        assert_eq!(is_cached(), Said::Cached(true));
        image.assert_in(&bench.cache());
        assert_eq!(bench.server.hits(&image.kernel.path), 2);
        assert_eq!(bench.server.hits(&image.rootfs.path), 1);

        // The directory, too: there is nothing to do but to say so.
        for directory in [bench.cache().join("hello"), bench.cache()] {
            chmod(&directory, 0);
            assert_eq!(is_cached(), Said::Cached(false));
            let (kind, message) = order.start_as(user, user).expect_failure();
            assert_eq!(kind, "Cache", "{message}");
            assert!(message.contains(&*directory.to_string_lossy()), "{message}");
            chmod(&directory, 0o700);
        }
        order.start_as(user, user).expect_image();
        assert_eq!(bench.server.requests().len(), 3);
    }
}

/// Behaviour 7: `is_cached` says no, and does not fail, whatever lies in the way.
#[test]
fn is_cached_never_fails() {
    let bench = Bench::new();
    let image = bench.publish("hello", 1);
    let manager = bench.manager([image.source(Pins::With)]);
    fs_err::write(bench.cache(), b"a file in the place of the cache").unwrap();
    assert!(!manager.is_cached("hello"));
    remove_any(&bench.cache());
    fs_err::create_dir(bench.cache()).unwrap();
    fs_err::write(bench.cache().join("hello"), b"a file in the place of the image").unwrap();
    assert!(!manager.is_cached("hello"));
    let error = manager.ensure_image("hello").unwrap_err();
    assert!(error.to_string().contains(&*bench.cache().join("hello").to_string_lossy()), "{error}");
}

/// Behaviours 3 and 7: with pins a damaged record costs nothing. Without them nothing else vouches
/// for the files: they count as not cached and are fetched again, and recorded anew.
#[test]
fn a_damaged_record_vouches_for_nothing() {
    for pins in Pins::BOTH {
        for record in [&b""[..], b"{", b"null", b"{\"version\":1}", &[0xff; 4096]] {
            let bench = Bench::new();
            let image = bench.publish("hello", 1);
            let manager = bench.manager([image.source(pins)]);
            manager.ensure_image("hello").unwrap();
            let path = bench.file("hello", "image.json");
            remove_any(&path);
            fs_err::write(&path, record).unwrap();

            let pinned = matches!(pins, Pins::With);
            let fetched = if pinned { 2 } else { 4 };
            assert_eq!(manager.is_cached("hello"), pinned);
            manager.ensure_image("hello").unwrap();
            assert_eq!(bench.server.requests().len(), fetched);
            flip_bit(&bench.file("hello", "rootfs.ext4"), 7);
            manager.ensure_image("hello").unwrap();
            assert_eq!(bench.server.requests().len(), fetched + 1, "nothing was recorded");
            image.assert_in(&bench.cache());
        }
    }
}

/// Behaviour 9: a hit on a cache that is in order changes nothing in it but the time of last use.
#[test]
fn a_hit_writes_nothing_but_its_time() {
    for pins in Pins::BOTH {
        let bench = Bench::new();
        let manager = bench.manager([bench.publish("hello", 1).source(pins)]);
        manager.ensure_image("hello").unwrap();
        let times = bench.cache().join(".state/last-used");
        let put_aside = bench.directory().join("last-used");
        fs_err::rename(&times, &put_aside).unwrap();
        fs_err::write(&times, b"in the way").unwrap();
        let before = tree::list(&bench.cache());
        manager.ensure_image("hello").unwrap();
        tree::assert_unchanged(&bench.cache(), &before);
    }
}
