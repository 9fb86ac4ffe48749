//! Many at once, in one process and in many: each asset is transferred once.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Barrier;
use std::sync::mpsc;
use std::thread;

use smolvm_image::{AssetKind, CancelToken, Event, FetchOptions, ImageError, ImageSource};
use smolvm_testkit::{Fault, Gate};

use super::bench::{Bench, Heard, Pins, assert_nothing_left};
use super::other_process::{Order, OtherProcess, Said};

const MANY: usize = 32;

/// Behaviour 30: 32 threads, each with a manager of its own, on a cache that nobody has made yet:
/// one transfer for each asset, one answer, and who waits says for which process.
#[test]
fn many_threads_share_one_transfer() {
    for pins in Pins::BOTH {
        let bench = Bench::new();
        let image = bench.publish("hello", 1);
        let gate = Gate::new();
        for (_, part) in image.parts() {
            bench.server.route(&part.path, part.route().fault(Fault::HoldAt(50_000, gate.clone())));
        }
        let barrier = Barrier::new(MANY);
        let (heard, waiting) = mpsc::channel();
        let mut said = Vec::new();
        let images: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..MANY)
                .map(|_| {
                    let heard = heard.clone();
                    let (bench, image, barrier) = (&bench, &image, &barrier);
                    scope.spawn(move || {
                        let manager = bench.manager([image.source(pins)]);
                        let options = FetchOptions::new().on_event(move |kind, event| {
                            if let Event::Waiting { what } = event {
                                let _ = heard.send((kind, what.clone()));
                            }
                        });
                        barrier.wait();
                        manager.ensure_image_with("hello", &options).unwrap()
                    })
                })
                .collect();
            // All but one wait for each asset, and say so before the gate opens.
            said.extend((0..2 * (MANY - 1)).map(|_| waiting.recv().unwrap()));
            gate.open();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for (kind, what) in said {
            assert!(what.contains(&format!("process {}", std::process::id())), "{what}");
            assert!(what.contains(&format!("the {kind} of 'hello'")), "{what}");
        }
        assert!(images.iter().all(|image| *image == images[0]));
        image.assert_in(&bench.cache());
        for (_, part) in image.parts() {
            assert_eq!(bench.server.hits(&part.path), 1, "{pins:?}");
            assert_eq!(bench.server.bytes_sent_for(&part.path), part.len(), "{pins:?}");
        }
        assert_nothing_left(&bench.cache());
    }
}

/// Behaviour 30: 32 processes on a cache that nobody has made yet. With the usual policy, each of
/// those that wait hashes every byte; where stamps count, that of the one that fetches does.
#[test]
fn many_processes_share_one_transfer() {
    for only_changed in [false, true] {
        let bench = Bench::new();
        let image = bench.publish("hello", 1);
        let gate = Gate::new();
        for (_, part) in image.parts() {
            let held = part.route().fault(Fault::HoldAt(50_000, gate.clone()));
            bench.server.route(&part.path, held);
        }
        let mut order = Order::ensure(&bench, &image.source(Pins::With));
        if only_changed {
            order = order.only_changed();
        }
        let mut processes: Vec<_> = (0..MANY).map(|_| order.start()).collect();
        let said: Vec<_> = processes.iter_mut().map(words_for_both_assets).collect();
        for asset in ["kernel", "rootfs"] {
            assert_all_wait_for_one(&processes, &said, asset);
        }
        gate.open();
        let all: Vec<_> = processes.into_iter().flat_map(OtherProcess::words).collect();
        let images: Vec<_> = all.iter().filter(|said| matches!(said, Said::Image { .. })).collect();
        assert_eq!(images.len(), MANY, "{all:?}");
        assert!(images.iter().all(|image| *image == images[0]));
        image.assert_in(&bench.cache());
        for (asset, part) in [("kernel", &image.kernel), ("rootfs", &image.rootfs)] {
            assert_eq!(bench.server.hits(&part.path), 1);
            assert_eq!(bench.server.bytes_sent_for(&part.path), part.len());
            let expected = Said::Hashes { asset: asset.to_owned() };
            let passes = all.iter().filter(|&said| *said == expected).count();
            if only_changed {
                assert_eq!(passes, 0, "the {asset}");
            } else {
                assert!(passes >= MANY - 1, "the {asset}: {passes}");
            }
        }
        assert_nothing_left(&bench.cache());
    }
}

/// What a process says until it has said something of both assets.
fn words_for_both_assets(process: &mut OtherProcess) -> Vec<Said> {
    let asset_of = |said: &Said| match said {
        Said::Waits { asset, .. } | Said::Receives { asset } => asset.clone(),
        other => panic!("it ended at a closed gate: {other:?}"),
    };
    let mut said = Vec::new();
    while said.iter().map(asset_of).collect::<BTreeSet<_>>().len() < 2 {
        said.push(process.next().expect("it ended at a closed gate"));
    }
    said
}

/// Fails unless one process receives an asset, and all others wait for that one by its id.
fn assert_all_wait_for_one(processes: &[OtherProcess], said: &[Vec<Said>], asset: &str) {
    let receives = Said::Receives { asset: asset.to_owned() };
    let holders: Vec<_> = (0..processes.len()).filter(|&n| said[n].contains(&receives)).collect();
    let [holder] = holders[..] else {
        panic!("{} processes receive the {asset}", holders.len());
    };
    let expected = format!("process {}", processes[holder].id());
    for (n, said) in said.iter().enumerate().filter(|(n, _)| *n != holder) {
        let waits = said.iter().any(|said| {
            matches!(said, Said::Waits { asset: of, what } if of == asset && what.contains(&expected))
        });
        assert!(waits, "process {n} does not wait for {expected}: {said:?}");
    }
}

/// Behaviour 30: one that waits can be cancelled, however long the other one takes.
#[test]
fn one_that_waits_can_be_cancelled() {
    let bench = Bench::new();
    let image = bench.publish("hello", 1);
    let gate = Gate::new();
    let part = &image.rootfs;
    bench.server.route(&part.path, part.route().fault(Fault::HoldAt(9, gate.clone())));
    let manager = bench.manager([image.source(Pins::With)]);
    thread::scope(|scope| {
        let first = scope.spawn(|| manager.ensure_image("hello"));
        gate.wait_for_arrivals(1);
        let cancel = CancelToken::new();
        let options = FetchOptions::new().cancel(&cancel).on_event({
            let cancel = cancel.clone();
            move |_, event| {
                if matches!(event, Event::Waiting { .. }) {
                    cancel.cancel();
                }
            }
        });
        // The gate is closed: it ends because it is cancelled.
        let error = manager.ensure_image_with("hello", &options).unwrap_err();
        assert!(matches!(error, ImageError::Cancelled), "{error}");
        gate.open();
        first.join().unwrap().unwrap();
    });
    image.assert_in(&bench.cache());
    assert_eq!(bench.server.hits(&part.path), 1);
}

/// Behaviour 31: the process that holds the locks is killed in the middle of a transfer; those who
/// wait go on, with one transfer more, and nobody removes anything by hand.
#[test]
fn a_killed_holder_lets_the_others_go_on() {
    for pins in Pins::BOTH {
        let bench = Bench::new();
        let image = bench.publish("hello", 1);
        // Never opened: only the first transfer comes to it, and it does not come through.
        let gate = Gate::new();
        let part = &image.rootfs;
        let stuck = Fault::HoldAt(part.len() - 1, gate.clone());
        bench.server.route(&part.path, part.route().fault_on(0, stuck));

        let order = Order::ensure(&bench, &image.source(pins));
        let mut holder = order.start();
        gate.wait_for_arrivals(1);
        // Else the kernel may not be whole when it is killed, and is asked for once more.
        holder.wait_for(|said| matches!(said, Said::Has { asset } if asset == "kernel"));
        let mut others: Vec<_> = (0..4).map(|_| order.start()).collect();
        for other in &mut others {
            other.wait_for(|said| matches!(said, Said::Waits { asset, .. } if asset == "rootfs"));
        }
        holder.kill();
        for other in others {
            other.expect_image();
        }
        image.assert_in(&bench.cache());
        assert_eq!(bench.server.hits(&image.kernel.path), 1);
        assert_eq!(bench.server.hits(&part.path), 2);
        assert_nothing_left(&bench.cache());
    }
}

/// Behaviour 32: two images are in the middle of their transfers at the same time.
#[test]
fn different_images_download_side_by_side() {
    let bench = Bench::new();
    let images = [bench.publish("one", 1), bench.publish("two", 2)];
    let gates = [Gate::new(), Gate::new()];
    for (image, gate) in images.iter().zip(&gates) {
        let part = &image.rootfs;
        bench.server.route(&part.path, part.route().fault(Fault::HoldAt(10_000, gate.clone())));
    }
    let manager = bench.manager(images.iter().map(|image| image.source(Pins::With)));
    thread::scope(|scope| {
        let manager = &manager;
        let threads = ["one", "two"].map(|name| scope.spawn(move || manager.ensure_image(name)));
        for gate in &gates {
            gate.wait_for_arrivals(1);
        }
        for (gate, thread) in gates.iter().zip(threads) {
            gate.open();
            thread.join().unwrap().unwrap();
        }
    });
    for image in &images {
        image.assert_in(&bench.cache());
    }
}

/// Ten images with the kernel of the first one.
fn ten_with_one_kernel(bench: &Bench) -> Vec<ImageSource> {
    let images: Vec<_> = (0..10).map(|n| bench.publish(&format!("image-{n}"), n)).collect();
    images
        .iter()
        .map(|image| {
            ImageSource::builder(&image.name)
                .kernel(&images[0].kernel.url, Some(&images[0].kernel.digest()))
                .rootfs(&image.rootfs.url, Some(&image.rootfs.digest()))
                .build()
                .unwrap()
        })
        .collect()
}

/// Fails unless ten images have one kernel: one transfer, one file.
fn assert_one_kernel(bench: &Bench) {
    assert_eq!(bench.server.hits("/image-0/kernel"), 1);
    let files: BTreeSet<_> = (0..10)
        .map(|n| {
            let kernel = bench.file(&format!("image-{n}"), "vmlinux.bin").metadata().unwrap();
            (kernel.ino(), kernel.nlink())
        })
        .collect();
    assert_eq!(files.len(), 1, "{files:?}");
    assert_eq!(files.first().unwrap().1, 10, "a link is left or missing");
    assert_nothing_left(&bench.cache());
}

/// Behaviour 32: the same kernel in ten images, fetched one after the other, is stored once.
#[test]
fn a_kernel_of_ten_images_is_stored_once() {
    let bench = Bench::new();
    let manager = bench.manager(ten_with_one_kernel(&bench));
    for n in 0..10 {
        let heard = Heard::default();
        manager.ensure_image_with(&format!("image-{n}"), &heard.options()).unwrap();
        let shared = heard.kinds(|event| matches!(event, Event::Shared { .. }));
        assert_eq!(shared, if n == 0 { vec![] } else { vec![AssetKind::Kernel] });
    }
    assert_one_kernel(&bench);
}

/// Behaviour 32: and also where the ten are fetched at once.
#[test]
fn a_kernel_of_ten_images_at_once_is_stored_once() {
    for _ in 0..5 {
        let bench = Bench::new();
        let sources = ten_with_one_kernel(&bench);
        // All are past their kernel before any of them can be published.
        let gate = Gate::new();
        for n in 0..10 {
            let part = bench.part(&format!("/image-{n}/rootfs"), 2 * n + 1, 300_007);
            bench.server.route(&part.path, part.route().fault(Fault::HoldAt(0, gate.clone())));
        }
        let manager = bench.manager(sources);
        thread::scope(|scope| {
            let manager = &manager;
            let threads: Vec<_> = (0..10)
                .map(|n| scope.spawn(move || manager.ensure_image(&format!("image-{n}"))))
                .collect();
            gate.wait_for_arrivals(10);
            gate.open();
            for thread in threads {
                thread.join().unwrap().unwrap();
            }
        });
        assert_one_kernel(&bench);
    }
}

/// Behaviour 32: images that have both assets in common do not wait for each other in a circle,
/// and fetch them once.
#[test]
fn images_with_the_same_assets_do_not_deadlock() {
    for pins in Pins::BOTH {
        let bench = Bench::new();
        let image = bench.publish("one", 1);
        // Crossed, so that each asset's thread meets the other image's in another order.
        let sources = (0..8).map(|n| {
            let source = ImageSource::builder(&format!("image-{n}"));
            let pin = |digest: String| (pins == Pins::With).then_some(digest);
            let (kernel, rootfs) = if n % 2 == 0 {
                (&image.kernel, &image.rootfs)
            } else {
                (&image.rootfs, &image.kernel)
            };
            source
                .kernel(&kernel.url, pin(kernel.digest()).as_deref())
                .rootfs(&rootfs.url, pin(rootfs.digest()).as_deref())
                .build()
                .unwrap()
        });
        let manager = bench.manager(sources);
        let barrier = Barrier::new(8);
        thread::scope(|scope| {
            for n in 0..8 {
                let (manager, barrier) = (&manager, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    manager.ensure_image(&format!("image-{n}")).unwrap();
                });
            }
        });
        for n in 0..8 {
            let report = manager.verify(&format!("image-{n}"), &FetchOptions::new()).unwrap();
            assert!(report.cached, "{report:?}");
        }
        if pins == Pins::With {
            assert_eq!(bench.server.hits(&image.kernel.path), 1);
            assert_eq!(bench.server.hits(&image.rootfs.path), 1);
        }
        assert_nothing_left(&bench.cache());
    }
}

/// Behaviours 30 and 32: an image whose two assets are the same file has it transferred once.
#[test]
fn two_assets_of_the_same_content() {
    for pins in Pins::BOTH {
        let bench = Bench::new();
        let part = bench.publish("hello", 1).kernel;
        let digest = (pins == Pins::With).then(|| part.digest());
        let source = ImageSource::builder("twice")
            .kernel(&part.url, digest.as_deref())
            .rootfs(&part.url, digest.as_deref())
            .build()
            .unwrap();
        let image = bench.manager([source]).ensure_image("twice").unwrap();
        assert_eq!(fs_err::read(image.kernel_path).unwrap(), *part.bytes);
        assert_eq!(fs_err::read(image.rootfs_path).unwrap(), *part.bytes);
        assert_eq!(bench.server.hits(&part.path), 1, "{pins:?}");
        assert_nothing_left(&bench.cache());
    }
}
