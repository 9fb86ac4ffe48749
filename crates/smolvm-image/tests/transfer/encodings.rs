//! Servers that encode a body though identity was asked for.

use smolvm_image::TransferError;
use smolvm_testkit::content::sha256_hex;
use smolvm_testkit::{Fault, Route, Server};

use crate::bytes::{Bytes, noise};
use crate::scene::{Scene, failure};

const SIZE: usize = 100_000;

fn kernel() -> Bytes {
    noise(40, SIZE)
}

/// Behaviour 16: identity is asked for, and gzip that comes all the same is undone: the pin is
/// that of the file.
#[test]
fn gzip_that_nobody_asked_for_is_undone() {
    for pin in [None, Some(sha256_hex(&kernel()))] {
        for framing in [Fault::Interim(103), Fault::Chunked, Fault::NoContentLength] {
            let (scene, server) = (Scene::new(), Server::start());
            let route = Route::new(kernel()).etag("\"v1\"").fault(Fault::Gzip);
            server.route("/kernel", route.fault(framing.clone()));
            let fetched = scene.fetch(&server.url("/kernel"), pin.as_deref());
            assert_eq!(fetched.unwrap(), kernel(), "{framing:?}");
            assert_eq!(server.requests()[0].header("Accept-Encoding"), Some("identity"));
        }
    }
}

/// Behaviour 16: offsets in a gzipped body are not those of the file, so a cut starts over.
#[test]
fn a_cut_gzip_starts_over() {
    for pin in [None, Some(sha256_hex(&kernel()))] {
        for cut in [5, 30_000, SIZE as u64] {
            let (scene, server) = (Scene::new(), Server::start());
            let route = Route::new(kernel()).etag("\"v1\"").fault(Fault::Gzip);
            server.route("/kernel", route.fault_on(0, Fault::CutAt(cut)));
            let fetched = scene.fetch(&server.url("/kernel"), pin.as_deref());
            assert_eq!(fetched.unwrap(), kernel(), "cut at {cut}");
            let last = server.requests().pop().unwrap();
            assert_eq!((last.status, last.header("Range")), (200, None));
        }
    }
}

/// Behaviour 16: a server that gzips some answers and not others never makes a mix.
#[test]
fn gzipped_and_plain_parts_are_never_mixed() {
    for pin in [None, Some(sha256_hex(&kernel()))] {
        for gzipped in [0, 1] {
            // In chunks, no size betrays that the second part is of something else.
            for framing in [Fault::Interim(103), Fault::Chunked] {
                let (scene, server) = (Scene::new(), Server::start());
                let route = Route::new(kernel())
                    .etag("\"v1\"")
                    .fault_on(0, framing.clone())
                    .fault_on(0, Fault::CutAt(30_000))
                    .fault_on(gzipped, Fault::Gzip);
                server.route("/kernel", route);
                let fetched = scene.fetch(&server.url("/kernel"), pin.as_deref());
                assert_eq!(fetched.unwrap(), kernel(), "answer {gzipped} gzipped, {framing:?}");
            }
        }
    }
}

/// Behaviour 16: bytes that are called gzip and are none are an error.
#[test]
fn what_is_called_gzip_and_is_none_is_an_error() {
    let (scene, server) = (Scene::new(), Server::start());
    let route = Route::new(kernel()).header("Content-Encoding", "gzip");
    server.route("/kernel", route);
    let (_, error) = failure(scene.fetch(&server.url("/kernel"), None));
    assert!(matches!(error, TransferError::Body(_)), "{error}");
    scene.assert_nothing_is_left();
}

/// Behaviour 16: an encoding that cannot be undone is refused by its name, at once.
#[test]
fn an_unknown_encoding_is_refused_by_name() {
    for (header, name) in
        [("br", "br"), ("zstd", "zstd"), ("gzip, br", "br"), ("gzip, gzip", "gzip")]
    {
        let (scene, server) = (Scene::new(), Server::start());
        let route = Route::new(kernel()).header("Content-Encoding", header);
        server.route("/kernel", route);
        let (attempts, error) =
            failure(scene.fetch(&server.url("/kernel"), Some(&sha256_hex(&kernel()))));
        assert!(matches!(&error, TransferError::Encoding(other) if other == name), "{error}");
        assert!(error.to_string().contains(name), "{error}");
        assert_eq!((attempts, server.requests().len()), (1, 1));
        scene.assert_nothing_is_left();
    }
}

/// Behaviour 16: an encoding that is none is none.
#[test]
fn identity_is_no_encoding() {
    let (scene, server) = (Scene::new(), Server::start());
    let route = Route::new(kernel()).header("Content-Encoding", "identity");
    server.route("/kernel", route);
    assert_eq!(scene.fetch(&server.url("/kernel"), None).unwrap(), kernel());
}
