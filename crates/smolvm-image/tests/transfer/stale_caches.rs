//! Caches on the way that serve what is out of date, and methods that proxies refuse.

use smolvm_image::ImageError;
use smolvm_testkit::content::sha256_hex;
use smolvm_testkit::{Fault, Route, Server};

use crate::bytes::{Bytes, noise};
use crate::child::{Child, Outcome};
use crate::scene::Scene;

fn kernel() -> Bytes {
    noise(70, 100_000)
}

fn stale() -> Bytes {
    noise(71, 100_000)
}

/// Behaviour 27: a mismatch that a cache on the way may have caused is tried once more past it.
#[test]
fn a_stale_answer_of_a_proxy_is_asked_for_again_past_its_cache() {
    let Some(child) = Child::of_this_test() else { return };
    let server = Server::start();
    server.route("/kernel", Route::new(kernel()));
    let proxy = smolvm_testkit::Proxy::builder()
        .stale_body(stale())
        .response_header("Age", "86400")
        .start();
    let outcome = child
        .var("http_proxy", &proxy.url())
        .fetch(&server.url("/kernel"), Some(&sha256_hex(&kernel())));
    assert_eq!(outcome, Outcome::fetched(&kernel()));
    let asked = proxy.requests();
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[0].header("Cache-Control"), None);
    assert_eq!(asked[1].header("Cache-Control"), Some("no-cache"));
    assert_eq!(asked[1].header("Pragma"), Some("no-cache"));
    assert_eq!(asked[1].header("Range"), None);
}

/// Behaviour 27: each header that a cache leaves is a reason to ask again, and once is enough.
#[test]
fn a_mismatch_behind_a_cache_is_tried_once_more() {
    for (header, value) in [
        ("Age", "5"),
        ("Via", "1.1 cache"),
        ("X-Cache", "HIT"),
        ("X-Cache-Lookup", "HIT from cache"),
        ("CF-Cache-Status", "HIT"),
        ("X-Served-By", "cache-1"),
        ("Cache-Status", "cache; hit"),
    ] {
        let (scene, server) = (Scene::new(), Server::start());
        let cached = Fault::Header(header, value.to_owned());
        let route = Route::new(kernel())
            .fault_on(0, Fault::replaced("\"old\"", stale()))
            .fault(cached.clone());
        server.route("/kernel", route);
        let url = server.url("/kernel");
        assert_eq!(scene.fetch(&url, Some(&sha256_hex(&kernel()))).unwrap(), kernel(), "{header}");

        server.route("/wrong", Route::new(stale()).fault(cached));
        let scene = Scene::new();
        let error = scene.fetch(&server.url("/wrong"), Some(&sha256_hex(&kernel()))).unwrap_err();
        assert!(matches!(error, ImageError::Mismatch { .. }), "{error}");
        assert_eq!(server.hits("/wrong"), 2, "{header}");
        scene.assert_nothing_is_left();
    }
}

/// Behaviour 27: where nothing shows a cache, a mismatch is one at once.
#[test]
fn without_a_cache_a_mismatch_is_not_tried_again() {
    let (scene, server) = (Scene::new(), Server::start());
    server.route("/kernel", Route::new(stale()).etag("\"v1\""));
    let error = scene.fetch(&server.url("/kernel"), Some(&sha256_hex(&kernel()))).unwrap_err();
    assert!(matches!(error, ImageError::Mismatch { .. }), "{error}");
    assert_eq!(server.requests().len(), 1);
}

/// Behaviour 27: no `HEAD` in a first fetch, a resumed one, a refresh or after a mismatch.
#[test]
fn only_get_is_ever_used() {
    let (scene, server) = (Scene::new(), Server::start());
    let route = Route::new(kernel()).etag("\"v1\"").fault_on(0, Fault::CutAt(1000));
    server.route("/kernel", route.header("Age", "1"));
    let manager = scene.builder(&server.url("/kernel"), None).build().unwrap();
    scene.ensure(&manager).unwrap();
    scene.ensure_with(&manager, &scene.options().refresh(true)).unwrap();
    let error = scene.fetch(&server.url("/kernel"), Some(&sha256_hex(&stale()))).unwrap_err();
    assert!(matches!(error, ImageError::Mismatch { .. }), "{error}");
    let methods: Vec<_> = server.requests().into_iter().map(|request| request.method).collect();
    assert_eq!(methods, ["GET"; 5]);
}
