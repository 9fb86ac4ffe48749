//! What is surely no image, and what a pin says about it.

use smolvm_image::{ErrorKind, ImageError};
use smolvm_testkit::content::sha256_hex;
use smolvm_testkit::{Fault, Gate, Route, Server};

use crate::bytes::{Bytes, noise};
use crate::scene::{IMAGE, Scene};

const PAGES: [(&[u8], &str); 6] = [
    (b"", "an empty file"),
    (b"<!DOCTYPE html><title>Sign in</title>", "an HTML page"),
    (b"\n<HTML><body>Not found</body></HTML>", "an HTML page"),
    (b"<?xml version=\"1.0\"?><Error/>", "an XML document"),
    (b"<Error><Code>AccessDenied</Code></Error>", "an XML document"),
    (b"{\"message\": \"not found\"}", "a JSON document"),
];

/// Behaviour 29: without a pin, an error page with status 200 is never an image, and the message
/// says what it is instead.
#[test]
fn without_a_pin_an_error_page_is_refused() {
    for (page, content) in PAGES {
        for framing in [Fault::Interim(103), Fault::Chunked] {
            let (scene, server) = (Scene::new(), Server::start());
            server.route("/kernel", Route::new(page).fault(framing));
            let url = server.url("/kernel");
            let error = scene.fetch(&url, None).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Verification, "{error}");
            assert!(matches!(error, ImageError::NotAnImage { .. }), "{error}");
            let message = error.to_string();
            assert!([&url, IMAGE, content].iter().all(|part| message.contains(part)), "{message}");
            assert_eq!(server.requests().len(), 1);
            scene.assert_nothing_is_left();
        }
    }
}

/// Behaviour 29: what matches its pin is taken as it is.
#[test]
fn with_a_matching_pin_a_page_is_taken() {
    for (page, content) in PAGES.into_iter().filter(|(page, _)| !page.is_empty()) {
        let (scene, server) = (Scene::new(), Server::start());
        server.route("/kernel", Route::new(page));
        let url = server.url("/kernel");
        let pin = sha256_hex(page);
        assert_eq!(&*scene.fetch(&url, Some(&pin)).unwrap(), page, "{content}");
        assert_eq!(&*scene.fetch(&url, Some(&pin)).unwrap(), page, "{content}");
        assert_eq!(server.requests().len(), 1);
    }
}

/// Behaviours 4 and 29: with another pin the mismatch says what came instead.
#[test]
fn a_mismatch_tells_what_came_instead() {
    for (page, content) in PAGES {
        let (scene, server) = (Scene::new(), Server::start());
        server.route("/kernel", Route::new(page));
        let error = scene.fetch(&server.url("/kernel"), Some(&sha256_hex(b"x"))).unwrap_err();
        assert!(matches!(error, ImageError::Mismatch { .. }), "{error}");
        assert!(error.to_string().contains(content), "{error}");
        scene.assert_nothing_is_left();
    }
}

/// Behaviour 29: the rest of an error page need not be waited for.
#[test]
fn an_error_page_is_refused_by_its_beginning() {
    let (scene, server, gate) = (Scene::new(), Server::start(), Gate::new());
    let page = [&b"<!DOCTYPE html>"[..], &vec![b' '; 4 << 20]].concat();
    let held = Fault::HoldAt(3 << 20, gate.clone());
    server.route("/kernel", Route::new(page).fault(held));
    let error = scene.fetch(&server.url("/kernel"), None).unwrap_err();
    assert!(matches!(error, ImageError::NotAnImage { .. }), "{error}");
    assert!(server.bytes_sent() <= 3 << 20, "the gate was never opened");
}

/// Behaviour 29: a page that comes in the place of the second half is not put behind the first.
#[test]
fn a_page_in_the_place_of_a_part_is_not_mixed_in() {
    let kernel = noise(95, 100_000);
    for pin in [None, Some(sha256_hex(&kernel))] {
        let (scene, server) = (Scene::new(), Server::start());
        let route = Route::new(kernel.clone())
            .etag("\"v1\"")
            .fault_on(0, Fault::CutAt(40_000))
            .fault_on(1, Fault::ErrorPage);
        server.route("/kernel", route);
        let error = scene.fetch(&server.url("/kernel"), pin.as_deref()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Verification, "{error}");
        assert!(error.to_string().contains("an HTML page"), "{error}");
        scene.assert_nothing_is_left();
        assert_eq!(scene.fetch(&server.url("/kernel"), pin.as_deref()).unwrap(), kernel);
    }
}

/// Behaviour 21: what is zeros on the wire takes no room on the disk, also where the transfer
/// breaks in the middle of it and goes on.
#[test]
fn zeros_become_holes_on_the_way() {
    use std::os::unix::fs::MetadataExt as _;

    let mut bytes = vec![0_u8; 8 << 20];
    bytes[..10_000].copy_from_slice(&noise(1, 10_000));
    bytes[(5 << 20) + 7..(5 << 20) + 9].fill(1);
    let digest = sha256_hex(&bytes);
    let server = Server::start();
    server.route(
        "/kernel",
        Route::new(bytes.clone()).etag("\"1\"").fault_on(0, Fault::ResetAt(3_000_001)),
    );
    let scene = Scene::new();
    let kernel = scene.fetch(&server.url("/kernel"), Some(&digest)).unwrap();
    assert_eq!(kernel, Bytes::from(bytes));
    assert_eq!(server.hits("/kernel"), 2);
    let metadata = fs_err::metadata(scene.kernel_path()).unwrap();
    assert!(metadata.blocks() * 512 <= 128 << 10, "{} blocks", metadata.blocks());
}
