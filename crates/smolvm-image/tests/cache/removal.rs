//! What `remove` and `prune` remove, and the bytes that they say the disk gets back.

use std::path::Path;

use smolvm_image::{FetchOptions, ImageError, Leaving};
use smolvm_testkit::{Fault, Gate, SmallDisk};

use super::bench::{
    Bench, Pins, Published, assert_nothing_left, manager_of, wait_until_waiting, wait_until_written,
};
use super::other_process::Order;
use super::tree;

fn used_bytes(path: &Path) -> u64 {
    let stat = rustix::fs::statvfs(path).unwrap();
    (stat.f_blocks - stat.f_bfree) * stat.f_frsize
}

/// Behaviour 36: the bytes that `remove` says are those that the disk gets back, and what two
/// images share comes back with the second one.
#[test]
fn remove_says_what_the_disk_gets_back() {
    let Some(disk) = SmallDisk::new(8 << 20) else { return };
    let bench = Bench::new();
    let cache = disk.path().join("cache");
    let one = bench.publish("one", 1);
    let two = Published { name: "two".to_owned(), ..one.clone() };
    let manager = manager_of(&cache, [one.source(Pins::With), two.source(Pins::With)]);
    manager.ensure_image("one").unwrap();
    manager.ensure_image("two").unwrap();
    assert_eq!(bench.server.requests().len(), 2);

    let options = FetchOptions::new();
    let mut freed_by = Vec::new();
    for name in ["one", "two"] {
        let before = used_bytes(disk.path());
        let removed = manager.remove(name, &options).unwrap();
        assert!(removed.existed);
        assert_eq!(removed.freed_bytes, before - used_bytes(disk.path()), "{name}");
        assert!(!cache.join(name).exists());
        freed_by.push(removed.freed_bytes);
    }
    let [first, second] = freed_by[..] else { unreachable!() };
    assert!(first <= 4096, "only the record is its own: {first}");
    assert!(second >= one.kernel.len() + one.rootfs.len(), "{second}");

    let again = manager.remove("one", &options).unwrap();
    assert_eq!((again.existed, again.freed_bytes), (false, 0));
    assert!(matches!(manager.remove("nobody", &options), Err(ImageError::UnknownImage { .. })));
    assert!(!manager.is_cached("one"));
}

/// Behaviour 36: `prune` does what its dry run says, and the disk gets back what both count:
/// partial and temporary files, and images that no registry names, shared content once.
#[test]
fn prune_agrees_with_its_dry_run_and_the_disk() {
    let Some(disk) = SmallDisk::new(16 << 20) else { return };
    let bench = Bench::new();
    let cache = disk.path().join("cache");
    let kept = bench.publish("kept", 1);
    // The first shares all it has with the second, and its kernel with the one that stays.
    let old =
        Published { name: "old".to_owned(), kernel: kept.kernel.clone(), ..bench.publish("x", 2) };
    let older = Published { name: "older".to_owned(), ..old.clone() };
    let all = [&kept, &old, &older].map(|image| image.source(Pins::With));
    let manager = manager_of(&cache, all);
    for name in ["kept", "old", "older"] {
        manager.ensure_image(name).unwrap();
    }
    leave_a_partial_file(&bench, &cache);
    fs_err::write(cache.join(".state/partial/of-nobody"), vec![1; 10_000]).unwrap();
    fs_err::create_dir(cache.join(".state/partial/planted")).unwrap();
    fs_err::write(cache.join(".state/partial/planted/file"), vec![1; 10_000]).unwrap();
    // Not an image of ours: nothing shows that it may go.
    fs_err::create_dir(cache.join("somebody-elses")).unwrap();
    fs_err::write(cache.join("somebody-elses/file"), b"x").unwrap();

    let manager = manager_of(&cache, [kept.source(Pins::With)]);
    let (before, used) = (tree::list(&cache), used_bytes(disk.path()));
    let listed = manager.prune(true, &FetchOptions::new()).unwrap();
    assert_eq!(used_bytes(disk.path()), used);
    assert_eq!(tree::list(&cache), before, "the dry run has changed something");
    disk.remount_read_only();
    assert_eq!(
        manager.prune(true, &FetchOptions::new()).unwrap(),
        listed,
        "a cache that cannot be written to"
    );
    disk.remount_read_write();

    let pruned = manager.prune(false, &FetchOptions::new()).unwrap();
    assert_eq!(pruned, listed);
    assert_eq!(pruned.freed_bytes, used - used_bytes(disk.path()));
    assert_eq!(pruned.freed_bytes, pruned.items.iter().map(|item| item.freed_bytes).sum::<u64>());
    assert!(pruned.freed_bytes > old.rootfs.len() + (1 << 20), "{pruned:?}");
    let count = |what| pruned.items.iter().filter(|item| item.what == what).count();
    assert_eq!(count(Leaving::UnregisteredImage), 2, "{pruned:?}");
    assert_eq!(count(Leaving::Partial), 2, "{pruned:?}");
    assert!(count(Leaving::Temporary) >= 1, "{pruned:?}");

    assert_nothing_left(&cache);
    kept.assert_in(&cache);
    assert!(cache.join("somebody-elses/file").exists());
    assert_eq!(manager.prune(false, &FetchOptions::new()).unwrap().items, []);
}

/// Kills a process after the first MiB of a transfer.
fn leave_a_partial_file(bench: &Bench, cache: &Path) {
    let mut image = bench.publish("begun", 7);
    image.rootfs = bench.part("/begun/large", 8, 3 << 20);
    let gate = Gate::new();
    let hold = Fault::HoldAt(2 << 20, gate.clone());
    bench.server.route(&image.rootfs.path, image.rootfs.route().fault(hold));
    bench
        .server
        .route(&image.kernel.path, image.kernel.route().fault(Fault::HoldAt(0, gate.clone())));
    let process = Order::new(bench, cache, &image.source(Pins::With)).start();
    gate.wait_for_arrivals(2);
    wait_until_written(cache, 1 << 20);
    process.kill();
}

/// Behaviour 33: what another process is at work on is not pruned.
#[test]
fn a_running_transfer_is_not_pruned() {
    let bench = Bench::new();
    let mut image = bench.publish("hello", 1);
    image.rootfs = bench.part("/hello/large", 8, 3 << 20);
    let gate = Gate::new();
    let hold = Fault::HoldAt(2 << 20, gate.clone());
    bench.server.route(&image.rootfs.path, image.rootfs.route().fault(hold));
    let process = Order::ensure(&bench, &image.source(Pins::With)).start();
    gate.wait_for_arrivals(1);
    wait_until_waiting(&bench.cache(), &image.kernel);
    wait_until_written(&bench.cache(), 1 << 20);
    let files = || tree::list(&bench.cache().join(".state/partial"));
    let before = files().into_keys().collect::<Vec<_>>();
    let pruned = manager_of(&bench.cache(), []).prune(false, &FetchOptions::new()).unwrap();
    assert_eq!(pruned.items, []);
    assert_eq!(files().into_keys().collect::<Vec<_>>(), before);
    gate.open();
    process.expect_image();
    image.assert_in(&bench.cache());
    assert_eq!(bench.server.requests().len(), 2);
}

/// Behaviour 33: `remove`, `prune` and `ensure_image` against each other: each fetch that came
/// through has given whole files, and who opened them keeps them.
#[test]
fn remove_and_prune_against_ensure() {
    let bench = Bench::new();
    let image = bench.publish("hello", 1);
    let manager = bench.manager([image.source(Pins::With)]);
    let nobody = manager_of(&bench.cache(), []);
    manager.ensure_image("hello").unwrap();
    std::thread::scope(|scope| {
        let fetches: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    for _ in 0..30 {
                        let found = manager.ensure_image("hello").unwrap();
                        // It may be gone again by now; a wrong byte it never has.
                        if let Ok(bytes) = fs_err::read(&found.rootfs_path) {
                            assert!(*bytes == *image.rootfs.bytes);
                        }
                    }
                })
            })
            .collect();
        while fetches.iter().any(|fetch| !fetch.is_finished()) {
            let _ = manager.remove("hello", &FetchOptions::new()).unwrap();
            nobody.prune(false, &FetchOptions::new()).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    });
    manager.ensure_image("hello").unwrap();
    image.assert_in(&bench.cache());
    assert_nothing_left(&bench.cache());
}
