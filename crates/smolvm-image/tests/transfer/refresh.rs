//! Asking a server whether it has something newer.

use smolvm_image::ImageManager;
use smolvm_testkit::content::sha256_hex;
use smolvm_testkit::{Fault, Route, Server};

use crate::bytes::{Bytes, noise};
use crate::scene::{Scene, failure, received};

const DATE: &str = "Tue, 01 Jul 2025 10:00:00 GMT";

fn old() -> Bytes {
    noise(110, 100_000)
}

fn new() -> Bytes {
    noise(111, 120_000)
}

/// A scene in which the old version is cached.
fn cached(route: Route, pin: Option<&str>) -> (Scene, Server, ImageManager) {
    let (scene, server) = (Scene::new(), Server::start());
    server.route("/kernel", route);
    let manager = scene.builder(&server.url("/kernel"), pin).build().unwrap();
    assert_eq!(scene.ensure(&manager).unwrap(), old());
    scene.events();
    (scene, server, manager)
}

/// What is unchanged by its entity tag, else by its date, stays, and no byte of it comes again.
#[test]
fn what_is_unchanged_is_kept() {
    for (route, header, value) in [
        (Route::new(old()).etag("\"v1\"").last_modified(DATE), "If-None-Match", "\"v1\""),
        (Route::new(old()).etag("W/\"v1\""), "If-None-Match", "W/\"v1\""),
        (Route::new(old()).last_modified(DATE), "If-Modified-Since", DATE),
    ] {
        let (scene, server, manager) = cached(route, None);
        for _ in 0..2 {
            let refreshed = scene.ensure_with(&manager, &scene.options().refresh(true));
            assert_eq!(refreshed.unwrap(), old());
        }
        let requests = server.requests();
        assert_eq!(requests.len(), 3);
        for asked in &requests[1..] {
            assert_eq!((asked.status, asked.header(header)), (304, Some(value)));
        }
        assert_eq!(received(&scene.events()), None);
        assert_eq!(scene.leavings(), []);
    }
}

/// What has changed is fetched, and replaces the earlier version.
#[test]
fn what_has_changed_is_replaced() {
    let route = Route::new(old())
        .etag("\"v1\"")
        .fault_from(1, Fault::replaced("\"v2\"", new()))
        .fault_on(1, Fault::CutAt(40_000));
    let (scene, server, manager) = cached(route, None);
    assert_eq!(scene.ensure_with(&manager, &scene.options().refresh(true)).unwrap(), new());
    assert_eq!(server.requests().len(), 3);
    assert_eq!(scene.ensure(&manager).unwrap(), new());
    // What is recorded now is of the new version.
    assert_eq!(scene.ensure_with(&manager, &scene.options().refresh(true)).unwrap(), new());
    let last = server.requests().pop().unwrap();
    assert_eq!((last.status, last.header("If-None-Match")), (304, Some("\"v2\"")));
    assert_eq!(scene.leavings(), []);
}

/// A server without validators sends everything again, which may be the same.
#[test]
fn without_validators_everything_comes_again() {
    let (scene, server, manager) = cached(Route::new(old()), None);
    assert_eq!(scene.ensure_with(&manager, &scene.options().refresh(true)).unwrap(), old());
    assert_eq!(server.bytes_sent(), 200_000);
    assert_eq!(scene.leavings(), []);
}

/// Behaviour 5: what is pinned cannot change, and nobody is asked.
#[test]
fn what_is_pinned_is_not_asked_for() {
    let (scene, server, manager) = cached(Route::new(old()), Some(&sha256_hex(&old())));
    assert_eq!(scene.ensure_with(&manager, &scene.options().refresh(true)).unwrap(), old());
    assert_eq!(server.requests().len(), 1);
}

/// A refresh that fails leaves what was there.
#[test]
fn a_refresh_that_fails_leaves_the_earlier_version() {
    for fault in [Fault::Status(404), Fault::CutAt(50_000), Fault::CloseUnanswered] {
        let route = Route::new(old()).etag("\"v1\"");
        let (scene, server, manager) = cached(route, None);
        let broken = Route::new(new()).etag("\"v2\"").fault(Fault::IgnoreRange).fault(fault);
        server.route("/kernel", broken);
        failure(scene.ensure_with(&manager, &scene.options().refresh(true)));
        assert_eq!(scene.kernel(), Some(old()));
        let asked = server.requests().len();
        assert_eq!(scene.ensure(&manager).unwrap(), old());
        assert_eq!(server.requests().len(), asked);
    }
}

/// What an earlier refresh had fetched as a whole before it was killed may be out of date, too.
#[test]
fn a_refresh_does_not_take_what_an_earlier_one_left() {
    let (scene, server, manager) = cached(Route::new(old()).etag("\"v1\""), None);
    let cut = Route::new(new()).etag("\"v2\"").fault(Fault::CutAt(50_000));
    server.route("/kernel", cut);
    let impatient = scene.builder(&server.url("/kernel"), None).attempts(1).build().unwrap();
    failure(scene.ensure_with(&impatient, &scene.options().refresh(true)));
    fs_err::write(scene.partial().unwrap(), new()).unwrap();

    let newest = noise(112, 90_000);
    server.route("/kernel", Route::new(newest.clone()).etag("\"v3\""));
    assert_eq!(scene.ensure_with(&manager, &scene.options().refresh(true)).unwrap(), newest);
    assert_eq!(scene.leavings(), []);
}

/// Behaviour 29: nor is an error page a newer version.
#[test]
fn an_error_page_is_no_newer_version() {
    let (scene, server, manager) = cached(Route::new(old()).etag("\"v1\""), None);
    server.route("/kernel", Route::new(old()).fault(Fault::ErrorPage));
    scene.ensure_with(&manager, &scene.options().refresh(true)).unwrap_err();
    assert_eq!(scene.kernel(), Some(old()));
    assert_eq!(scene.leavings(), []);
}
