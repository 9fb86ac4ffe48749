//! What an observer hears.

use smolvm_image::Event;
use smolvm_testkit::content::sha256_hex;
use smolvm_testkit::{Fault, Route, Server};

use crate::bytes::noise;
use crate::scene::Scene;

const SIZE: u64 = 5_000_000;

fn progress(events: &[Event]) -> Vec<(u64, Option<u64>)> {
    let progress = |event: &Event| match event {
        Event::Progress { done, total } => Some((*done, *total)),
        _ => None,
    };
    events.iter().filter_map(progress).collect()
}

/// Progress never goes back, ends at the total, and is followed by one word of success; over
/// interruptions and over runs.
#[test]
fn progress_only_grows_and_ends_at_the_total() {
    let (scene, server) = (Scene::new(), Server::start());
    let kernel = noise(130, usize::try_from(SIZE).unwrap());
    let route = Route::new(kernel.clone())
        .etag("\"v1\"")
        .fault_on(0, Fault::CutAt(1_000_000))
        .fault_on(1, Fault::ResetAt(500_000))
        .fault_on(3, Fault::CutAt(2_000_000));
    server.route("/kernel", route);
    let url = server.url("/kernel");
    let impatient = scene.builder(&url, None).attempts(1).build().unwrap();
    scene.ensure(&impatient).unwrap_err();
    let first = progress(&scene.events());
    scene.fetch(&url, None).unwrap();
    let events = scene.events();
    let second = progress(&events);

    let all: Vec<_> = first.iter().chain(&second).copied().collect();
    assert!(all.is_sorted(), "{all:?}");
    assert!(all.iter().all(|(_, total)| *total == Some(SIZE)), "{all:?}");
    assert_eq!(first.first(), Some(&(0, Some(SIZE))));
    assert_eq!(second.first(), Some(&(1_000_000, Some(SIZE))), "earlier bytes count");
    assert_eq!(second.last(), Some(&(SIZE, Some(SIZE))));
    assert_eq!(events.last(), Some(&Event::Fetched { size: SIZE, received: 4_000_000 }));
}

/// A transfer that starts over says so by beginning at 0 again; a size that nobody announced is
/// none.
#[test]
fn starting_over_and_unknown_sizes_are_told() {
    let (scene, server) = (Scene::new(), Server::start());
    let kernel = noise(130, 200_000);
    let route = Route::new(kernel.clone())
        .fault(Fault::IgnoreRange)
        .fault(Fault::NoContentLength)
        .fault_on(0, Fault::CutAt(100_000));
    server.route("/kernel", route);
    scene.fetch(&server.url("/kernel"), Some(&sha256_hex(&kernel))).unwrap();
    let progress = progress(&scene.events());
    assert!(progress.iter().all(|(_, total)| total.is_none()), "{progress:?}");
    assert_eq!(progress.iter().filter(|(done, _)| *done == 0).count(), 2, "{progress:?}");
    assert_eq!(progress.last(), Some(&(200_000, None)));
}

/// A hit is hashed and told, and nothing is fetched.
#[test]
fn a_hit_is_told() {
    let (scene, server) = (Scene::new(), Server::start());
    let kernel = noise(130, 1000);
    server.route("/kernel", Route::new(kernel.clone()));
    let url = server.url("/kernel");
    scene.fetch(&url, None).unwrap();
    scene.events();
    scene.fetch(&url, None).unwrap();
    let hit = [Event::Verifying { size: 1000 }, Event::Cached { size: 1000 }];
    assert_eq!(scene.events(), hit);

    let mut damaged = kernel;
    damaged[500] ^= 1;
    fs_err::remove_file(scene.kernel_path()).unwrap();
    fs_err::write(scene.kernel_path(), damaged).unwrap();
    scene.fetch(&url, None).unwrap();
    let events = scene.events();
    let told = events
        .iter()
        .any(|event| matches!(event, Event::Damaged { reason } if reason.contains("SHA-256")));
    assert!(told, "{events:?}");
}
