//! What a prune picks by age, by size and by pins, what it leaves to those who use it, and what
//! the disk gets back.

use std::collections::BTreeSet;
use std::fs::{File, FileTimes};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::FallocateFlags;
use smolvm_image::{FetchOptions, ImageManager, ImageSource, Leaving, PruneOptions, Pruned};
use smolvm_testkit::SmallDisk;

use super::bench::{Bench, Pins, Published, assert_nothing_left, manager_of};
use super::other_process::{Call, Order, OtherProcess, Said, can_become_others};
use super::tree::{self, Canary};

/// Bytes of a directory and everything below it as `du` counts them: each file once.
fn disk_usage(path: &Path) -> u64 {
    let mut seen = BTreeSet::new();
    let mut todo = vec![path.to_owned()];
    let mut blocks = 0;
    while let Some(path) = todo.pop() {
        let metadata = path.symlink_metadata().unwrap();
        if seen.insert((metadata.dev(), metadata.ino())) {
            blocks += metadata.blocks();
        }
        if metadata.is_dir() {
            todo.extend(fs_err::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    blocks * 512
}

/// Bytes in use of the file system, all that was removed given back and all that was written
/// counted.
fn used_bytes(path: &Path) -> u64 {
    let directory = File::open(path).unwrap();
    rustix::fs::syncfs(&directory).unwrap();
    let stat = rustix::fs::statvfs(path).unwrap();
    (stat.f_blocks - stat.f_bfree) * stat.f_frsize
}

/// Makes it so that an image was used that long ago, and no later.
fn used_ago(cache: &Path, image: &str, ago: Duration) {
    let stamp = stamp(cache, image);
    let time = SystemTime::now() - ago;
    let file = File::options().write(true).open(stamp).unwrap();
    file.set_times(FileTimes::new().set_modified(time)).unwrap();
}

fn stamp(cache: &Path, image: &str) -> PathBuf {
    let user = rustix::process::geteuid().as_raw();
    cache.join(format!(".state/last-used/{image}@{user}"))
}

pub(crate) fn prune(manager: &ImageManager, options: &PruneOptions) -> Pruned {
    manager.prune_with(options, &FetchOptions::new()).unwrap()
}

pub(crate) fn removed(pruned: &Pruned) -> Vec<String> {
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    pruned.items.iter().map(|item| name(&item.path)).collect()
}

/// Behaviours 33 and 36: a cache of 40 images, of which some share their kernels and 5 are in use
/// by other processes, on a disk of its own. Whatever the budget, from nothing to everything, those
/// go that nobody has used for longest, and none that is in use; what is left fits, or is in use;
/// the dry run says the same as the run; and what both say comes free is what the disk gets back.
#[test]
fn a_budget_takes_the_least_recently_used_and_frees_what_it_says() {
    const IMAGES: u64 = 40;
    const IN_USE: [u64; 5] = [0, 1, 13, 20, 39];
    let Some(disk) = SmallDisk::ext4(64 << 20) else { return };
    let bench = Bench::new();
    let cache = disk.path().join("cache");
    let mut published: Vec<Published> = Vec::new();
    for number in 0..IMAGES {
        let mut image = bench.publish(&format!("image-{number:02}"), number);
        if number % 4 == 3 {
            // The kernel of the one before.
            image.kernel = published[published.len() - 1].kernel.clone();
        }
        published.push(image);
    }
    let sources = || published.iter().map(|image| image.source(Pins::With));
    let manager = manager_of(&cache, sources());
    for tenth in (0..=10).rev() {
        // Used one after the other, the first longest ago.
        for (number, image) in published.iter().enumerate() {
            manager.ensure_image(&image.name).unwrap();
            let seconds = 3600 - u64::try_from(number).unwrap();
            used_ago(&cache, &image.name, Duration::from_secs(seconds));
        }
        let users: Vec<OtherProcess> = IN_USE
            .map(|number| {
                let image = &published[usize::try_from(number).unwrap()];
                let order = Order::new(&bench, &cache, &image.source(Pins::With));
                let mut process = order.call(Call::Open).start();
                process.wait_for(|said| matches!(said, Said::Holds));
                used_ago(&cache, &image.name, Duration::from_secs(3600 - number));
                process
            })
            .into();
        // What is written later takes a block more where a file is in many pieces.
        rustix::fs::syncfs(fs_err::File::open(disk.path()).unwrap()).unwrap();
        let total = disk_usage(&cache);
        let budget = total / 10 * tenth;
        let options = PruneOptions::new().max_size(budget);
        let listed = prune(&manager, &options.clone().dry_run(true));
        assert_eq!(disk_usage(&cache), total, "the dry run has changed something");

        let before = used_bytes(disk.path());
        let pruned = prune(&manager, &options);
        assert_eq!(pruned, listed, "budget {budget}");
        assert_eq!(before - used_bytes(disk.path()), pruned.freed_bytes, "budget {budget}");
        assert_eq!(disk_usage(&cache), pruned.left_bytes, "budget {budget}");

        let may_go = (0..IMAGES).filter(|number| !IN_USE.contains(number));
        let gone = removed(&pruned);
        let expected: Vec<_> =
            may_go.take(gone.len()).map(|number| format!("image-{number:02}")).collect();
        assert_eq!(gone, expected, "budget {budget}");
        let all_that_may = gone.len() == published.len() - IN_USE.len();
        assert!(pruned.left_bytes <= budget || all_that_may, "{pruned:?}");
        if let Some(last) = pruned.items.last() {
            assert!(pruned.left_bytes + last.freed_bytes > budget, "one too many: {pruned:?}");
        }
        assert!(tenth > 0 || all_that_may, "{pruned:?}");
        for (number, image) in (0..IMAGES).zip(&published) {
            if gone.contains(&image.name) {
                assert!(!cache.join(&image.name).exists() && !stamp(&cache, &image.name).exists());
                assert!(!IN_USE.contains(&number));
            } else {
                image.assert_in(&cache);
            }
        }
        // Whoever uses an image can be killed, and it is free.
        users.into_iter().for_each(OtherProcess::kill);
    }
    let pruned = prune(&manager, &PruneOptions::new().max_size(0));
    assert_eq!((pruned.items.len(), pruned.in_use.len()), (IN_USE.len(), 0), "{pruned:?}");
    assert_nothing_left(&cache);
}

/// Behaviour 36: one of two links goes and frees nothing but its own record; both go and the
/// content comes free once. Holes count for nothing.
#[test]
fn links_and_holes_are_counted_as_the_disk_does() {
    let Some(disk) = SmallDisk::ext4(32 << 20) else { return };
    let bench = Bench::new();
    let cache = disk.path().join("cache");
    let mut image = bench.publish("one", 1);
    // The zeros are a hole in the cache.
    let mut bytes = image.rootfs.bytes.to_vec();
    bytes.resize(8 << 20, 0);
    image.rootfs.bytes = bytes.into();
    bench.server.route(&image.rootfs.path, image.rootfs.route());
    let link = Published { name: "two".to_owned(), ..image.clone() };
    let manager = manager_of(&cache, [image.source(Pins::With), link.source(Pins::With)]);
    for name in ["one", "two"] {
        manager.ensure_image(name).unwrap();
    }
    let file = cache.join("one/rootfs.ext4");
    let zeros =
        u64::try_from(bench.publish("one", 1).rootfs.bytes.len()).unwrap().next_multiple_of(4096);
    tree::chmod(&file, 0o600);
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    let writable = File::options().write(true).open(&file).unwrap();
    rustix::fs::fallocate(&writable, flags, zeros, (8 << 20) - zeros).unwrap();
    drop(writable);
    tree::chmod(&file, 0o400);
    used_ago(&cache, "one", Duration::from_hours(1));
    for (options, names, least) in [
        (PruneOptions::new().older_than(Duration::from_mins(30)), vec!["one"], 0),
        (PruneOptions::new().max_size(0), vec!["two"], image.kernel.len()),
    ] {
        let listed = prune(&manager, &options.clone().dry_run(true));
        let before = used_bytes(disk.path());
        let pruned = prune(&manager, &options);
        assert_eq!(
            (removed(&pruned), &pruned),
            (names.iter().map(|n| (*n).to_owned()).collect(), &listed)
        );
        assert_eq!(before - used_bytes(disk.path()), pruned.freed_bytes);
        let most = if least == 0 { 16 << 10 } else { 2 << 20 };
        assert!((least..most).contains(&pruned.freed_bytes), "{pruned:?}");
    }
}

/// Images go by the time that nobody has used them for; a use puts that off, and so does a look
/// for where it lies.
#[test]
fn age_is_that_of_the_last_use() {
    let bench = Bench::new();
    let names = ["fetched", "cached", "located", "opened", "idle", "unknown"];
    let images: Vec<_> = (0..).zip(names).map(|(seed, name)| bench.publish(name, seed)).collect();
    let manager = bench.manager(images.iter().map(|image| image.source(Pins::With)));
    let cache = bench.cache();
    for name in &names[1..] {
        manager.ensure_image(name).unwrap();
        used_ago(&cache, name, Duration::from_hours(40 * 24));
    }
    // When it was used is not known: the time of the fetch counts.
    fs_err::remove_file(stamp(&cache, "unknown")).unwrap();
    manager.ensure_image("fetched").unwrap();
    manager.ensure_image("cached").unwrap();
    manager.locate("located").unwrap();
    drop(manager.open_image("opened", &FetchOptions::new()).unwrap());
    // To ask for it is no use.
    assert!(manager.is_cached("idle"));
    manager.inspect("idle").unwrap();
    manager.verify("idle", &FetchOptions::new()).unwrap();

    let month = PruneOptions::new().older_than(Duration::from_hours(30 * 24));
    let pruned = prune(&manager, &month);
    assert_eq!(removed(&pruned), ["idle"]);
    assert_eq!(pruned.items[0].what, Leaving::UnusedImage);
    assert_eq!(removed(&prune(&manager, &month)), Vec::<String>::new());
}

/// Images with an asset that has no pin go when they are asked for, and images that no registry
/// names do unless that is ruled out.
#[test]
fn pins_and_registries_pick_images() {
    let bench = Bench::new();
    let (pinned, unpinned, other) =
        (bench.publish("pinned", 1), bench.publish("unpinned", 2), bench.publish("other", 3));
    let registered = [pinned.source(Pins::With), unpinned.source(Pins::Without)];
    let all = bench.manager(registered.clone().into_iter().chain([other.source(Pins::Without)]));
    for name in ["pinned", "unpinned", "other"] {
        all.ensure_image(name).unwrap();
    }
    let manager = bench.manager(registered);
    let of = |options: PruneOptions| {
        let pruned = prune(&manager, &options.dry_run(true));
        pruned.items.iter().map(|item| item.what).zip(removed(&pruned)).collect::<Vec<_>>()
    };
    let unregistered = (Leaving::UnregisteredImage, "other".to_owned());
    let without_pin = (Leaving::UnpinnedImage, "unpinned".to_owned());
    let registered_alone = || PruneOptions::new().unregistered(false);
    for (options, expected) in [
        (PruneOptions::new(), vec![&unregistered]),
        (registered_alone(), vec![]),
        (registered_alone().unpinned(true), vec![&without_pin]),
        (PruneOptions::new().unpinned(true), vec![&unregistered, &without_pin]),
        (registered_alone().max_size(1 << 30), vec![]),
    ] {
        assert_eq!(of(options.clone()).iter().collect::<Vec<_>>(), expected, "{options:?}");
    }
}

/// Behaviour 43: `prune` and `remove` remove a symbolic link, never what it points to, wherever
/// one is planted: for an image, a file of one, a partial or temporary file, a note.
#[test]
fn links_are_removed_and_never_followed() {
    let bench = Bench::new();
    let canary = Canary::new(bench.directory(), b"precious");
    let images = ["kept", "old", "link"];
    let images: Vec<_> = (1..).zip(images).map(|(seed, name)| bench.publish(name, seed)).collect();
    let sources: Vec<ImageSource> = images.iter().map(|image| image.source(Pins::With)).collect();
    let manager = bench.manager(sources.clone());
    for image in &images {
        manager.ensure_image(&image.name).unwrap();
    }
    let cache = bench.cache();
    let state = cache.join(".state");
    canary.plant_directory_link(&cache.join("link"));
    canary.plant_directory_link(&cache.join("old/planted"));
    canary.plant_file_link(&cache.join("old/rootfs.ext4"));
    canary.plant_file_link(&state.join(format!("partial/sha256-{}", images[0].rootfs.digest())));
    canary.plant_directory_link(&state.join("partial/of-nobody"));
    canary.plant_file_link(&stamp(&cache, "kept"));
    canary.plant_file_link(&stamp(&cache, "nobody"));
    canary.plant_file_link(&state.join("in-use/kept@0000000000000000"));

    let manager = bench.manager([sources[0].clone(), sources[2].clone()]);
    let everything = PruneOptions::new().max_size(0).older_than(Duration::ZERO);
    let listed = prune(&manager, &everything.clone().dry_run(true));
    canary.assert_untouched();
    assert_eq!(prune(&manager, &everything), listed);
    canary.assert_untouched();
    assert!(!cache.join("kept").exists() && !cache.join("old").exists());
    for directory in ["partial", "last-used", "in-use"] {
        let left: Vec<_> = fs_err::read_dir(state.join(directory)).unwrap().collect();
        assert!(left.len() <= usize::from(directory == "last-used"), "{directory}: {left:?}");
    }

    assert!(manager.remove("link", &FetchOptions::new()).unwrap().existed);
    assert!(cache.join("link").symlink_metadata().is_err());
    canary.assert_untouched();

    // The places of the notes themselves lead nowhere, either.
    manager.ensure_image("kept").unwrap();
    canary.plant_directory_link(&state.join("last-used"));
    canary.plant_directory_link(&state.join("in-use"));
    manager.ensure_image("kept").unwrap();
    assert_eq!(removed(&prune(&manager, &everything)), ["kept"]);
    canary.assert_untouched();
}

/// Behaviour 34: in a cache that a group shares, the last use of each member counts, and a time
/// that one makes in the name of another does not.
#[test]
fn nobody_makes_the_time_of_another() {
    const ANNE: u32 = 61_021;
    const BEN: u32 = 61_022;
    const GROUP: u32 = 61_020;
    if !can_become_others() {
        return;
    }
    let bench = Bench::new();
    fs_err::create_dir(bench.cache()).unwrap();
    std::os::unix::fs::chown(bench.cache(), Some(ANNE), Some(GROUP)).unwrap();
    tree::chmod(&bench.cache(), 0o2770);
    let sources = [bench.publish("bens", 1), bench.publish("forged", 2)]
        .map(|image| image.source(Pins::With));
    let manager = bench.manager(sources.clone());
    for source in &sources {
        Order::ensure(&bench, source).start_as(ANNE, GROUP).expect_image();
    }
    Order::ensure(&bench, &sources[0]).start_as(BEN, GROUP).expect_image();
    let old = SystemTime::now() - Duration::from_hours(48);
    let times = bench.cache().join(".state/last-used");
    for image in ["bens", "forged"] {
        let stamp = File::options().write(true).open(times.join(format!("{image}@{ANNE}")));
        stamp.unwrap().set_times(FileTimes::new().set_modified(old)).unwrap();
    }
    // Anne makes a use of Ben's up.
    let forged = times.join(format!("forged@{BEN}"));
    fs_err::write(&forged, b"").unwrap();
    std::os::unix::fs::chown(&forged, Some(ANNE), Some(GROUP)).unwrap();

    let day = PruneOptions::new().older_than(Duration::from_hours(24)).dry_run(true);
    assert_eq!(removed(&prune(&manager, &day)), ["forged"]);
}
