//! Images that somebody uses, and those who want to remove them.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use smolvm_image::{Event, FetchOptions, ImageError, ImageUser, PruneOptions};
use smolvm_testkit::SmallDisk;

use super::bench::{Bench, Pins, Published, assert_nothing_left, manager_of};
use super::other_process::{Call, Order, Said};
use super::pruning::{prune, removed};

/// Behaviour 33: an image that another process has open is neither removed nor pruned, and who
/// wants to remove it hears which process that is. An image that shares a file with it goes, and
/// takes nothing from it. With force it goes, too, and its user keeps what it has.
#[test]
fn an_image_in_use_stays() {
    let bench = Bench::new();
    let (image, other) = (bench.publish("used", 1), bench.publish("other", 2));
    let other = Published { kernel: image.kernel.clone(), ..other };
    let sources = [image.source(Pins::With), other.source(Pins::With)];
    let manager = bench.manager(sources.clone());
    let options = FetchOptions::new();
    let mut process = Order::ensure(&bench, &sources[0]).call(Call::Open).start();
    process.wait_for(|said| matches!(said, Said::Holds));
    manager.ensure_image("other").unwrap();
    assert_eq!(bench.server.hits(&image.kernel.path), 1, "the kernel is shared");
    assert_nothing_left(&bench.cache());

    let error = manager.remove("used", &options).unwrap_err();
    let ImageError::InUse { image: name, users } = &error else { panic!("{error}") };
    let [ImageUser::Process { process: id, .. }] = users[..] else { panic!("{users:?}") };
    assert_eq!((name.as_str(), id), ("used", process.id()));
    assert!(error.to_string().contains(&format!("process {id}")), "{error}");
    let pruned = prune(&manager, &PruneOptions::new().max_size(0));
    assert_eq!(removed(&pruned), ["other"]);
    assert_eq!(
        pruned.in_use.iter().map(smolvm_image::ImageName::as_str).collect::<Vec<_>>(),
        ["used"]
    );
    assert!(pruned.freed_bytes < other.rootfs.len() + 16 * 1024, "the kernel is still there");
    image.assert_in(&bench.cache());

    let forced = manager.force_remove("used", &options).unwrap();
    assert!(forced.existed && forced.freed_bytes <= 16 * 1024, "{forced:?}");
    assert!(!bench.cache().join("used").exists());
    process.tell("check");
    process.wait_for(|said| matches!(said, Said::Whole(true)));
    // A new image of the name is another one.
    manager.ensure_image("used").unwrap();
    assert!(manager.remove("used", &options).unwrap().existed);
}

/// Behaviour 33: the lock of an image belongs to the open file: a child that inherited it keeps the
/// image in use when its parent is gone, and the kernel ends it with the child.
#[test]
fn who_inherits_an_image_keeps_it_in_use() {
    let bench = Bench::new();
    let source = bench.publish("hello", 1).source(Pins::With);
    let manager = bench.manager([source.clone()]);
    let mut parent = Order::ensure(&bench, &source).call(Call::HandOn).start();
    let Said::HandedOn(child) = parent.wait_for(|said| matches!(said, Said::HandedOn(_))) else {
        unreachable!()
    };
    parent.kill();
    let error = manager.remove("hello", &FetchOptions::new()).unwrap_err();
    let ImageError::InUse { users, .. } = &error else { panic!("{error}") };
    let [ImageUser::Process { process, program }] = &users[..] else { panic!("{users:?}") };
    assert_eq!((*process, program.as_str()), (child, "sleep"));
    let child = rustix::process::Pid::from_raw(i32::try_from(child).unwrap()).unwrap();
    rustix::process::kill_process(child, rustix::process::Signal::KILL).unwrap();
    let is_in_use = || match manager.remove("hello", &FetchOptions::new()) {
        Err(ImageError::InUse { .. }) => true,
        removed => !removed.unwrap().existed,
    };
    while is_in_use() {
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Behaviour 10: images of a cache that cannot be written to are held as well, by locks on the
/// files themselves, and serve without any.
#[test]
fn images_of_a_read_only_cache_are_held() {
    let Some(disk) = SmallDisk::new(8 << 20) else { return };
    let bench = Bench::new();
    let cache = disk.path().join("cache");
    let manager = manager_of(&cache, [bench.publish("hello", 1).source(Pins::With)]);
    manager.ensure_image("hello").unwrap();
    disk.remount_read_only();
    let open = manager.open_image("hello", &FetchOptions::new()).unwrap();
    disk.remount_read_write();
    assert!(matches!(manager.remove("hello", &FetchOptions::new()), Err(ImageError::InUse { .. })));
    drop(open);
    assert!(manager.remove("hello", &FetchOptions::new()).unwrap().existed);
}

/// Behaviour 33: an image that somebody removes after its bytes were hashed, and before it is held,
/// is fetched again: what is open has its names.
#[test]
fn an_image_that_is_removed_while_it_is_opened_is_fetched_again() {
    let bench = Bench::new();
    let image = bench.publish("hello", 1);
    let manager = bench.manager([image.source(Pins::With)]);
    manager.ensure_image("hello").unwrap();
    let other = bench.manager([image.source(Pins::With)]);
    let hashed = AtomicU32::new(0);
    let options = FetchOptions::new().on_event(move |_, event| {
        // After the second of its assets, once.
        if matches!(event, Event::Cached { .. }) && hashed.fetch_add(1, Ordering::Relaxed) == 1 {
            assert!(other.remove("hello", &FetchOptions::new()).unwrap().existed);
        }
    });
    let open = manager.open_image("hello", &options).unwrap();
    let inode = |path: &Path| path.metadata().unwrap().ino();
    assert_eq!(open.kernel().metadata().unwrap().ino(), inode(&open.kernel_path));
    assert_eq!(open.rootfs().metadata().unwrap().ino(), inode(&open.rootfs_path));
    image.assert_in(&bench.cache());
    assert_eq!(bench.server.requests().len(), 4);
}

/// Behaviour 33: removing, pruning to nothing, fetching and opening against each other, from many
/// processes: what somebody has open keeps its name and its bytes as long as it is open.
#[test]
fn an_open_image_is_never_taken_from_many_processes() {
    let bench = Bench::new();
    let (one, two) = (bench.publish("one", 1), bench.publish("two", 2));
    // They share a kernel, and so its links.
    let two = Published { kernel: one.kernel.clone(), ..two };
    let orders = [&one, &two].map(|image| Order::ensure(&bench, &image.source(Pins::With)));
    let mut processes = Vec::new();
    for order in &orders {
        for call in [Call::OpenMany, Call::OpenMany, Call::EnsureMany, Call::RemoveMany] {
            processes.push(order.clone().call(call).start());
        }
    }
    processes.push(orders[0].clone().call(Call::PruneMany).start());
    for process in processes {
        assert_eq!(process.outcome(), Said::Done);
    }
    let manager = bench.manager([one.source(Pins::With), two.source(Pins::With)]);
    for image in [&one, &two] {
        manager.ensure_image(&image.name).unwrap();
        image.assert_in(&bench.cache());
    }
    assert_nothing_left(&bench.cache());
}
