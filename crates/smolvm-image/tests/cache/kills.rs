//! Kill -9 at any moment: a final name holds nothing or the whole, and the next run goes on.

use std::time::{Duration, Instant};

use smolvm_testkit::{Fault, Gate, Numbers};

use super::bench::{
    Bench, Pins, Published, assert_nothing_left, wait_until_waiting, wait_until_written,
};
use super::other_process::{Order, OtherProcess};
use super::tree;

const KILLS: usize = 20;

/// Behaviour 11: processes are killed at random bytes of their transfers and at random moments.
/// No wrong byte is ever under a final name, and after a run that comes through nothing is left.
#[test]
fn no_kill_leaves_a_wrong_byte() {
    let mut numbers = Numbers::of_this_run();
    for pins in Pins::BOTH {
        let bench = Bench::new();
        let mut image = bench.publish("hello", numbers.below(1 << 32));
        image.rootfs = bench.part("/hello/rootfs", numbers.below(1 << 32), 3_000_017);
        let order = Order::ensure(&bench, &image.source(pins));
        let manager = bench.manager([image.source(pins)]);
        for _ in 0..KILLS {
            if manager.is_cached("hello") {
                tree::remove_any(&bench.cache().join("hello"));
            }
            kill_one(&bench, &image, &order, &mut numbers);
            assert_absent_or_whole(&bench, &image);
        }
        for (_, part) in image.parts() {
            bench.server.route(&part.path, part.route());
        }
        manager.ensure_image("hello").unwrap();
        image.assert_in(&bench.cache());
        assert_nothing_left(&bench.cache());
        let hidden = fs_err::read_dir(bench.cache().join("hello")).unwrap().count();
        assert_eq!(hidden, 3, "the image's directory has more than its assets and its record");
    }
}

/// Starts a process and kills it: where a transfer is held at a random byte, or after a random
/// time, or not at all, where it comes through before.
fn kill_one(bench: &Bench, image: &Published, order: &Order, numbers: &mut Numbers) {
    let gate = Gate::new();
    for (_, part) in image.parts() {
        let hold = Fault::HoldAt(numbers.below(part.len()), gate.clone());
        bench.server.route(&part.path, part.route().fault(hold));
    }
    let mut process = order.start();
    if numbers.below(2) == 0 {
        // Held sooner or later, or past what is still to come.
        let end = Instant::now() + Duration::from_millis(40 + numbers.below(40));
        while !process.has_ended() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
    } else {
        gate.open();
        std::thread::sleep(Duration::from_micros(numbers.below(40_000)));
    }
    OtherProcess::kill(process);
    // What the dead one had asked for must not hold up the end of the server.
    gate.open();
}

fn assert_absent_or_whole(bench: &Bench, image: &Published) {
    for (file, part) in image.parts() {
        let path = bench.file("hello", file);
        if path.symlink_metadata().is_ok() {
            assert!(*fs_err::read(&path).unwrap() == *part.bytes, "{} is wrong", path.display());
        }
    }
}

/// Behaviour 11: the next run asks only for the bytes that the killed one has not written.
#[test]
fn the_next_run_continues() {
    for pins in Pins::BOTH {
        let bench = Bench::new();
        let mut image = bench.publish("hello", 1);
        image.rootfs = bench.part("/hello/rootfs", 2, 3_000_017);
        let part = &image.rootfs;
        let gate = Gate::new();
        let hold = Fault::HoldAt(2_500_000, gate.clone());
        bench.server.route(&part.path, part.route().fault_on(0, hold));
        let order = Order::ensure(&bench, &image.source(pins));
        let process = order.start();
        gate.wait_for_arrivals(1);
        wait_until_waiting(&bench.cache(), &image.kernel);
        wait_until_written(&bench.cache(), 2_000_000);
        process.kill();
        assert_absent_or_whole(&bench, &image);

        order.start().expect_image();
        image.assert_in(&bench.cache());
        assert_nothing_left(&bench.cache());
        let second = &bench.server.requests_for(&part.path)[1];
        assert_eq!(second.status, 206, "{pins:?}");
        assert!(second.body_bytes <= 1_000_017, "{pins:?}: {} bytes again", second.body_bytes);
        assert_eq!(bench.server.hits(&image.kernel.path), 1, "{pins:?}: a whole kernel was lost");
    }
}
