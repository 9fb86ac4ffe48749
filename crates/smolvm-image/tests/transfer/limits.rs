//! Bodies without end: cut off before they fill the disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use smolvm_image::{ErrorKind, ImageError, TransferError};
use smolvm_testkit::content::sha256_hex;
use smolvm_testkit::{Fault, Route, Server, SmallDisk};

use crate::bytes::{Bytes, noise};
use crate::scene::{Scene, failure};

const MIB: u64 = 1 << 20;

fn kernel() -> Bytes {
    noise(60, 100_000)
}

fn endless() -> Route {
    Route::new(kernel()).fault(Fault::EndlessBody)
}

/// Behaviour 18: a body that never ends is cut off at the limit for assets, and not asked for
/// again.
#[test]
fn an_endless_body_is_cut_off_at_the_limit() {
    for pin in [None, Some(sha256_hex(&kernel()))] {
        for framing in [Fault::NoContentLength, Fault::Chunked] {
            let (scene, server) = (Scene::new(), Server::start());
            server.route("/kernel", endless().fault(framing));
            let manager = scene
                .builder(&server.url("/kernel"), pin.as_deref())
                .max_asset_size(3 * MIB)
                .build()
                .unwrap();
            let (attempts, error) = failure(scene.ensure(&manager));
            assert!(matches!(error, TransferError::TooLarge { limit } if limit == 3 * MIB));
            assert!(error.to_string().contains("3145728 bytes"), "{error}");
            assert_eq!((attempts, server.requests().len()), (1, 1));
            assert_eq!(scene.kernel(), None);
            scene.assert_nothing_is_left();
        }
    }
}

/// Behaviour 18: what is announced as larger than the limit is refused before its first byte is
/// written.
#[test]
fn an_announced_size_beyond_the_limit_is_refused_at_once() {
    let (scene, server) = (Scene::new(), Server::start());
    server.route("/kernel", Route::new(kernel()));
    let build = |limit| scene.builder(&server.url("/kernel"), None).max_asset_size(limit).build();
    let (attempts, error) = failure(scene.ensure(&build(99_999).unwrap()));
    assert!(matches!(error, TransferError::TooLarge { limit: 99_999 }), "{error}");
    assert_eq!(attempts, 1);
    scene.assert_nothing_is_left();
    assert_eq!(scene.ensure(&build(100_000).unwrap()).unwrap(), kernel());
}

/// Behaviour 18: a gzip bomb is bounded by what it unpacks to.
#[test]
fn a_gzip_bomb_is_cut_off_at_the_limit() {
    let (scene, server) = (Scene::new(), Server::start());
    server.route("/kernel", Route::new(vec![0; 64 << 20]).fault(Fault::Gzip));
    let manager =
        scene.builder(&server.url("/kernel"), None).max_asset_size(2 * MIB).build().unwrap();
    let (_, error) = failure(scene.ensure(&manager));
    assert!(matches!(error, TransferError::TooLarge { .. }), "{error}");
    assert!(scene.partial_length().unwrap_or_default() <= 4 * MIB);
    assert_eq!(scene.kernel(), None);
}

/// Behaviour 18: a body that never ends is cut off before the disk is full, however small.
#[test]
fn an_endless_body_ends_before_the_disk_is_full() {
    let Some(disk) = SmallDisk::new(64 * MIB) else { return };
    let (scene, server) = (Scene::on(disk.path()), Server::start());
    server.route("/kernel", endless());
    let manager = scene.builder(&server.url("/kernel"), None).build().unwrap();
    let least = Arc::new(AtomicU64::new(u64::MAX));
    let seen = Arc::clone(&least);
    let path = disk.path().to_owned();
    let watch = scene.options().on_event(move |_, _| {
        seen.fetch_min(free(&path), Ordering::Relaxed);
    });
    let error = scene.ensure_with(&manager, &watch).unwrap_err();
    let ImageError::DiskFull { available, .. } = error else { panic!("{error}") };
    assert!(available > 0, "the last block was taken");
    assert!(least.load(Ordering::Relaxed) > 0);
    assert_eq!(error.kind(), ErrorKind::Cache);
    assert!(error.to_string().contains(&disk.path().display().to_string()), "{error}");
    assert_eq!(scene.kernel(), None);

    // The disk was left usable, and what is left on it does not stand in the way.
    server.route("/kernel", Route::new(kernel()));
    assert_eq!(scene.ensure(&manager).unwrap(), kernel());
    assert_eq!(scene.leavings(), []);
}

/// Behaviour 18: an announced size that the disk has no room for is refused before its first
/// byte, and the message says what is missing.
#[test]
fn an_announced_size_beyond_the_disk_is_refused_at_once() {
    let Some(disk) = SmallDisk::new(4 * MIB) else { return };
    let (scene, server) = (Scene::on(disk.path()), Server::start());
    server.route("/kernel", Route::new(noise(61, 6 << 20)));
    let error = scene.fetch(&server.url("/kernel"), None).unwrap_err();
    let ImageError::DiskFull { needed, available, .. } = error else { panic!("{error}") };
    assert_eq!(needed, 6 * MIB);
    assert!(available <= 4 * MIB && available > 3 * MIB, "{available}");
    assert_eq!(server.requests().len(), 1);
    scene.assert_nothing_is_left();
}

fn free(path: &std::path::Path) -> u64 {
    let stat = rustix::fs::statvfs(path).unwrap();
    stat.f_bavail * stat.f_frsize
}
