//! The same against the real nginx.

use std::process::Stdio;

use smolvm_testkit::content::sha256_hex;
use smolvm_testkit::{Authority, Nginx, require_nginx};

use crate::bytes::{Bytes, noise};
use crate::child::Child;
use crate::scene::{Scene, received};

const SIZE: u64 = 2_000_000;

/// A directory to serve.
fn site() -> (tempfile::TempDir, Bytes) {
    let (root, kernel) = (tempfile::tempdir().unwrap(), noise(150, usize::try_from(SIZE).unwrap()));
    fs_err::write(root.path().join("kernel"), &kernel).unwrap();
    (root, kernel)
}

/// Behaviour 5: nginx serves an image once, over http and https; afterwards it is a hit.
#[test]
fn nginx_serves_an_image_once() {
    if !require_nginx() {
        return;
    }
    let (root, kernel) = site();
    let authority = Authority::new();
    for nginx in [Nginx::start(root.path()), Nginx::builder(root.path()).tls(&authority).start()] {
        let scene = Scene::new();
        let manager = scene
            .builder(&nginx.url("/kernel"), Some(&sha256_hex(&kernel)))
            .ca_file(authority.ca_pem_path())
            .build()
            .unwrap();
        assert!(scene.ensure(&manager).unwrap() == kernel);
        assert!(scene.ensure(&manager).unwrap() == kernel);
        let log = nginx.stop();
        assert_eq!(log.len(), 1);
        assert_eq!((log[0].method.as_str(), log[0].status), ("GET", 200));
        assert_eq!(log[0].body_bytes_sent, SIZE);
    }
}

/// Behaviour 11: a process that is killed in the middle of a slow transfer leaves nothing under
/// the final name, and the next one asks nginx for what is missing.
#[test]
fn a_killed_transfer_is_resumed_from_nginx() {
    let Some(child) = Child::of_this_test() else { return };
    if !require_nginx() {
        return;
    }
    let (root, kernel) = site();
    let slow = "set $rate 100k; if ($http_range) { set $rate 0; } limit_rate $rate;";
    let nginx = Nginx::builder(root.path()).config(slow).start();
    let directory = tempfile::tempdir().unwrap();
    let url = nginx.url("/kernel");

    let scene = Scene::on(directory.path());
    let mut killed =
        child.command(directory.path(), &url, None).stdout(Stdio::null()).spawn().unwrap();
    scene.wait_for_bytes(|| killed.try_wait().unwrap().is_some());
    killed.kill().unwrap();
    killed.wait().unwrap();
    let kept = scene.partial_length().unwrap();
    assert_eq!(scene.kernel(), None);

    assert!(scene.fetch(&url, None).unwrap() == kernel);
    assert_eq!(received(&scene.events()), Some(SIZE - kept));
    assert_eq!(scene.leavings(), []);
    let log = nginx.stop();
    let last = log.iter().find(|line| line.status == 206).unwrap();
    assert_eq!(last.range, Some(format!("bytes={kept}-")));
    assert_eq!(last.body_bytes_sent, SIZE - kept);
}

/// Behaviour 14: nginx answers `If-Range` of a file that was replaced with the whole new one.
#[test]
fn nginx_sends_a_replaced_file_as_a_whole() {
    if !require_nginx() {
        return;
    }
    let (root, _) = site();
    let slow = "set $rate 100k; if ($http_range) { set $rate 0; } limit_rate $rate;";
    let nginx = Nginx::builder(root.path()).config(slow).start();
    let scene = Scene::new();
    let manager = scene.builder(&nginx.url("/kernel"), None).build().unwrap();
    scene.cancel_in_the_middle(&manager);
    let new = noise(151, usize::try_from(SIZE).unwrap() + 1);
    fs_err::write(root.path().join("kernel"), &new).unwrap();
    assert!(scene.fetch(&nginx.url("/kernel"), None).unwrap() == new);
    let log = nginx.stop();
    let last = log.last().unwrap();
    assert!(last.range.is_some());
    assert_eq!((last.status, last.body_bytes_sent), (200, SIZE + 1));
}
