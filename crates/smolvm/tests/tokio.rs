//! The awaited calls do what the blocking ones do, and end when they are dropped.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::pin::pin;
use std::sync::mpsc;
use std::time::Duration;

use smolvm::tokio::ImageManager;
use smolvm::{AssetKind, ErrorKind, Event, FetchOptions, ImageSource, Registry};
use smolvm_testkit::{Fault, Route, Server, content};
use tempfile::TempDir;

const ROOTFS: usize = 4 << 20;
/// How long a test waits for bytes before it fails.
const PATIENCE: Duration = Duration::from_mins(1);

/// A server with an image, and a manager that knows it.
fn site(rootfs_faults: impl FnOnce(Route) -> Route) -> (Server, TempDir, ImageManager) {
    let server = Server::start();
    let (kernel, rootfs) = (content::noise(1, 10_000), content::noise(2, ROOTFS));
    let pins = (content::sha256_hex(&kernel), content::sha256_hex(&rootfs));
    server.route("/kernel", Route::new(kernel).etag("\"k\""));
    server.route("/rootfs", rootfs_faults(Route::new(rootfs).etag("\"r\"")));
    let source = ImageSource::builder("dev")
        .kernel(&server.url("/kernel"), Some(&pins.0))
        .rootfs(&server.url("/rootfs"), Some(&pins.1))
        .build()
        .unwrap();
    let cache = tempfile::tempdir().unwrap();
    let manager = smolvm::ImageManager::builder()
        .cache_dir(cache.path().join("images"))
        .registry(Registry::from_iter([source]))
        .build()
        .unwrap();
    (server, cache, manager.into())
}

#[tokio::test]
async fn an_image_is_fetched_and_removed() {
    let (server, _cache, manager) = site(|route| route);
    assert!(!manager.is_cached("dev").await);
    let image = manager.ensure_image("dev").await.unwrap();
    assert_eq!(fs_err::read(&image.rootfs_path).unwrap(), content::noise(2, ROOTFS));
    assert_eq!(manager.locate("dev").await.unwrap(), image);
    assert!(manager.verify("dev").await.unwrap().assets.iter().all(|a| a.status.is_good()));
    assert_eq!(
        manager.pin("dev").await.unwrap(),
        *manager.blocking().registry().get("dev").unwrap()
    );
    assert_eq!(manager.cached_names().await.unwrap(), ["dev"]);
    assert!(manager.remove("dev").await.unwrap().existed);
    assert!(!manager.inspect("dev").await.unwrap().cached);
    assert!(manager.prune(true).await.unwrap().items.is_empty());
    assert_eq!(server.hits("/rootfs"), 1);
}

#[tokio::test]
async fn errors_come_through() {
    let (_server, _cache, manager) = site(|route| route);
    let error = manager.ensure_image("dve").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownImage);
}

/// The first transfer would take many seconds. If dropping its future did not end it, the second
/// call would wait for it and ask the server for nothing.
#[tokio::test]
async fn a_dropped_future_ends_its_transfer_and_the_next_call_goes_on_from_there() {
    let slow = Fault::Throttle { bytes_per_second: ROOTFS as u64 / 10 };
    let (server, _cache, manager) = site(|route| route.fault_on(0, slow));
    {
        let (progress, arrived) = mpsc::channel();
        let options = FetchOptions::new().on_event(move |kind, event| {
            if kind == AssetKind::Rootfs && matches!(event, Event::Progress { done: 1.., .. }) {
                let _ = progress.send(());
            }
        });
        let arrived = tokio::task::spawn_blocking(move || arrived.recv_timeout(PATIENCE));
        let fetch = pin!(manager.ensure_image_with("dev", options));
        tokio::select! {
            result = fetch => panic!("the server is slow: {result:?}"),
            arrived = arrived => arrived.unwrap().unwrap(),
        }
    }
    let image = manager.ensure_image("dev").await.unwrap();
    assert_eq!(fs_err::read(&image.rootfs_path).unwrap(), content::noise(2, ROOTFS));
    assert_eq!(server.hits("/rootfs"), 2);
    assert!(server.requests_for("/rootfs")[1].header("range").is_some(), "it starts over");
}
