//! Caches of one user and of a group: the modes of what is made, and what members may do to each
//! other.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use smolvm_image::FetchOptions;
use smolvm_testkit::{Fault, Gate};

use super::bench::{Bench, Part, Pins, Published, assert_nothing_left, wait_until_written};
use super::log_capture;
use super::other_process::{Call, Order, OtherProcess, Said, can_become_others};
use super::tree;

/// Two members of a group. None of the numbers is anybody's on the machine.
const ANNE: u32 = 61_011;
const BEN: u32 = 61_012;
const GROUP: u32 = 61_010;
/// Neither of them nor of their group.
const STRANGER: u32 = 61_013;

/// A bench whose cache directory is shared by the group, on purpose.
fn shared_bench() -> Option<Bench> {
    if !can_become_others() {
        return None;
    }
    let bench = Bench::new();
    fs_err::create_dir(bench.cache()).unwrap();
    std::os::unix::fs::chown(bench.cache(), Some(0), Some(GROUP)).unwrap();
    tree::chmod(&bench.cache(), 0o2770);
    Some(bench)
}

/// The call of a member whose umask takes everything from the group.
fn by(member: u32, order: &Order) -> OtherProcess {
    order.clone().umask(0o077).start_as(member, GROUP)
}

fn assert_modes(cache: &Path, dir: u32, published: u32, working: u32) {
    for (path, entry) in tree::list(cache) {
        let expected = if entry.is_dir() {
            dir
        } else if path.starts_with(".state/last-used") {
            // Nobody sets another one's time.
            working & !0o020
        } else if path.starts_with(".state") {
            working
        } else {
            published
        };
        assert_eq!(entry.permissions(), expected, "{} has {:o}", path.display(), entry.mode);
    }
}

/// Behaviour 34: two users of one group use a cache in turn, whatever their umask: what one made
/// the other can use, repair, replace and remove.
#[test]
fn members_of_a_group_share_a_cache() {
    for pins in Pins::BOTH {
        let Some(bench) = shared_bench() else { return };
        let (one, two) = (bench.publish("one", 1), bench.publish("two", 2));
        let (of_one, of_two) =
            (Order::ensure(&bench, &one.source(pins)), Order::ensure(&bench, &two.source(pins)));
        by(ANNE, &of_one).expect_image();
        assert_modes(&bench.cache(), 0o2770, 0o440, 0o660);
        for (path, entry) in tree::list(&bench.cache()) {
            assert_eq!(entry.gid, GROUP, "{}", path.display());
        }
        by(BEN, &of_one).expect_image();
        by(BEN, &of_two).expect_image();
        by(ANNE, &of_two).expect_image();
        assert_eq!(bench.server.requests().len(), 4, "a member could not use the other's files");

        tree::flip_bit(&bench.file("one", "vmlinux.bin"), 3);
        by(BEN, &of_one).expect_image();
        one.assert_in(&bench.cache());
        assert_eq!(bench.server.hits(&one.kernel.path), 2);

        assert_eq!(by(BEN, &of_one.clone().call(Call::Remove)).outcome(), Said::Done);
        assert!(!bench.cache().join("one").exists());
        by(ANNE, &of_one).expect_image();
        assert_eq!(by(BEN, &of_one.clone().call(Call::Prune)).outcome(), Said::Done);
        assert!(!bench.cache().join("two").exists(), "Ben's registry does not name it");
        assert_modes(&bench.cache(), 0o2770, 0o440, 0o660);

        let stranger = of_one.start_as(STRANGER, STRANGER).expect_failure();
        assert_eq!(stranger.0, "Cache", "{}", stranger.1);
    }
}

/// Behaviour 34: members who begin a cache at the same moment do not lock each other out.
#[test]
fn members_begin_a_cache_together() {
    for _ in 0..4 {
        let Some(bench) = shared_bench() else { return };
        let image = bench.publish("hello", 1);
        let order = Order::ensure(&bench, &image.source(Pins::With));
        let both: Vec<_> =
            [ANNE, BEN, ANNE, BEN].into_iter().map(|member| by(member, &order)).collect();
        for process in both {
            process.expect_image();
        }
        image.assert_in(&bench.cache());
        assert_eq!(bench.server.requests().len(), 2);
        assert_modes(&bench.cache(), 0o2770, 0o440, 0o660);
        assert_nothing_left(&bench.cache());
    }
}

/// Behaviours 34 and 11: what a member leaves who is killed while making something for the group,
/// the next one removes at once; what somebody is at work on stays, also from a prune.
#[test]
fn what_a_killed_maker_leaves_goes() {
    let Some(bench) = shared_bench() else { return };
    let (image, other) = (bench.publish("hello", 1), bench.publish("other", 2));
    bench.manager([other.source(Pins::With)]).ensure_image("other").unwrap();
    let left = |name: &str| bench.cache().join(format!(".{name}.0123456789abcdef"));
    for name in ["hello", "dead", "alive"] {
        fs_err::create_dir(left(name)).unwrap();
    }
    let key = format!("sha256-{}", image.kernel.digest());
    let lock = bench.cache().join(format!(".state/locks/.{key}.0123456789abcdef"));
    fs_err::write(&lock, b"").unwrap();
    let maker = std::fs::File::open(left("alive")).unwrap();
    maker.lock_shared().unwrap();

    let manager = bench.manager([image.source(Pins::With), other.source(Pins::With)]);
    manager.ensure_image("hello").unwrap();
    assert!(!left("hello").exists() && !lock.exists());
    manager.prune(false, &FetchOptions::new()).unwrap();
    assert!(!left("dead").exists());
    assert!(left("alive").exists(), "its maker is at work");
}

/// Behaviours 34 and 31: one member's transfer is killed; another one continues from its bytes.
#[test]
fn a_member_continues_what_another_began() {
    let Some(bench) = shared_bench() else { return };
    let mut image = bench.publish("hello", 1);
    image.rootfs = bench.part("/large", 9, 3 << 20);
    let gate = Gate::new();
    let part = &image.rootfs;
    let hold = Fault::HoldAt(2 << 20, gate.clone());
    bench.server.route(&part.path, part.route().fault_on(0, hold));
    let order = Order::ensure(&bench, &image.source(Pins::With));
    let anne = by(ANNE, &order);
    gate.wait_for_arrivals(1);
    wait_until_written(&bench.cache(), 1 << 20);
    for entry in fs_err::read_dir(bench.cache().join(".state/partial")).unwrap() {
        let (name, mode) = {
            let entry = entry.unwrap();
            (entry.file_name(), entry.metadata().unwrap().permissions().mode())
        };
        if name.to_string_lossy().ends_with(".part") {
            // What is hashed only as it arrives must not be written to by anybody else.
            assert_eq!(mode & 0o777, 0o640, "{}", name.display());
        }
    }
    anne.kill();
    by(BEN, &order).expect_image();
    image.assert_in(&bench.cache());
    let second = &bench.server.requests_for(&part.path)[1];
    assert_eq!(second.status, 206, "nothing was continued");
    assert_nothing_left(&bench.cache());
}

/// Behaviour 34: whatever a member plants, under a final name with a record to match, as a whole
/// file that waits, or as the beginning of one: another member does not get a byte of it.
#[test]
fn planted_bytes_are_not_used() {
    type Plant = fn(&Bench, &Published, &Part);
    let as_final: Plant = |bench, image, forged| {
        let (file, record) =
            (bench.file("hello", "rootfs.ext4"), bench.file("hello", "image.json"));
        let text = fs_err::read_to_string(&record).unwrap();
        let text = text
            .replace(&image.rootfs.digest(), &forged.digest())
            .replace(&image.rootfs.len().to_string(), &forged.len().to_string());
        give_to_ben(&record, text.as_bytes(), 0o440);
        give_to_ben(&file, &forged.bytes, 0o440);
    };
    let as_waiting: Plant = |bench, image, forged| {
        let path = planted_path(bench, image, "");
        give_to_ben(&path, &forged.bytes, 0o440);
    };
    let as_beginning: Plant = |bench, image, forged| {
        let path = planted_path(bench, image, ".00000000000000aa.part");
        give_to_ben(&path, &forged.bytes[..150_000], 0o660);
    };
    let as_all: Plant = |bench, image, forged| {
        let path = planted_path(bench, image, ".00000000000000aa.part");
        give_to_ben(&path, &forged.bytes, 0o660);
    };
    for (what, plant) in [
        ("a final file", as_final),
        ("a file that waits", as_waiting),
        ("a beginning", as_beginning),
        ("all", as_all),
    ] {
        let Some(bench) = shared_bench() else { return };
        let image = bench.publish("hello", 1);
        let order = Order::ensure(&bench, &image.source(Pins::With));
        by(ANNE, &order).expect_image();
        if what != "a final file" {
            tree::remove_any(&bench.file("hello", "rootfs.ext4"));
        }
        plant(&bench, &image, &bench.part("/forged", 99, 300_007));
        by(ANNE, &order).expect_image();
        image.assert_in(&bench.cache());
        assert_eq!(bench.server.hits(&image.kernel.path), 1, "{what}");
        assert_nothing_left(&bench.cache());
    }
}

fn planted_path(bench: &Bench, image: &Published, suffix: &str) -> PathBuf {
    let key = format!("sha256-{}", image.rootfs.digest());
    bench.cache().join(".state/partial").join(key + suffix)
}

fn give_to_ben(path: &Path, bytes: &[u8], mode: u32) {
    tree::remove_any(path);
    fs_err::write(path, bytes).unwrap();
    std::os::unix::fs::chown(path, Some(BEN), Some(GROUP)).unwrap();
    tree::chmod(path, mode);
}

/// Behaviour 41: without sharing on purpose, everything is its user's alone, whatever the umask.
#[test]
fn a_cache_is_private() {
    for umask in [0o000, 0o077] {
        let bench = Bench::new();
        let image = bench.publish("hello", 1);
        Order::ensure(&bench, &image.source(Pins::Without)).umask(umask).start().expect_image();
        assert_modes(&bench.cache(), 0o700, 0o400, 0o600);
    }
}

/// Behaviour 41: files of a transfer that goes on are private, too.
#[test]
fn a_transfer_is_private() {
    let bench = Bench::new();
    let image = bench.publish("hello", 1);
    let gate = Gate::new();
    let part = &image.rootfs;
    bench.server.route(&part.path, part.route().fault(Fault::HoldAt(99, gate.clone())));
    let process = Order::ensure(&bench, &image.source(Pins::Without)).umask(0).start();
    gate.wait_for_arrivals(1);
    process.kill();
    let left: Vec<_> = tree::list(&bench.cache().join(".state/partial")).into_values().collect();
    assert!(left.len() > 1, "the transfer has left nothing to look at");
    for entry in left {
        let private = if entry.is_dir() { 0o700 } else { entry.permissions() & 0o600 };
        assert_eq!(entry.permissions(), private);
    }
}

/// Behaviour 41: a cache directory that others can write to gets a warning, once; one that is
/// private, or shared on purpose, gets none.
#[test]
fn a_cache_that_others_can_write_to_gets_a_warning() {
    log_capture::listen();
    for (mode, warned) in [
        (0o777, true),
        (0o1777, true),
        (0o770, true),
        (0o755, false),
        (0o700, false),
        (0o2770, false),
    ] {
        let bench = Bench::new();
        let image = bench.publish("hello", 1).source(Pins::With);
        fs_err::create_dir(bench.cache()).unwrap();
        tree::chmod(&bench.cache(), mode);
        for name in ["hello", "hello"] {
            bench.manager([image.clone()]).ensure_image(name).unwrap();
            tree::remove_any(&bench.cache().join(name));
        }
        let path = bench.cache().display().to_string();
        let warnings = log_capture::lines_with(&path)
            .into_iter()
            .filter(|line| line.starts_with("WARN: others can write"))
            .count();
        assert_eq!(warnings, usize::from(warned), "{mode:o}");
    }
}
