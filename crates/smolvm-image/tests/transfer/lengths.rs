//! What `Content-Length` says, when it says nothing, and where a body ends.

use smolvm_image::{ImageError, TransferError};
use smolvm_testkit::content::sha256_hex;
use smolvm_testkit::{Fault, Route, Server};

use crate::bytes::{Bytes, noise};
use crate::scene::{Scene, failure};

const SIZE: usize = 100_000;

fn kernel() -> Bytes {
    noise(30, SIZE)
}

fn pin() -> String {
    sha256_hex(&kernel())
}

/// The ways in which a length can be absent without the body having another end.
fn unreadable() -> Vec<Vec<Fault>> {
    let mut faults: Vec<Vec<Fault>> =
        ["", "abc", "-1", "+100000", "1e5", "0x186a0", "100000, 100000", "100000 bytes"]
            .map(|value| vec![Fault::ContentLength(value.to_owned())])
            .into();
    faults.push(vec![Fault::ContentLength("184467440737095516160".to_owned())]);
    faults.push(vec![Fault::RepeatContentLength("100000".to_owned()), closing()]);
    faults.push(vec![Fault::RepeatContentLength("5".to_owned()), closing()]);
    faults.push(vec![Fault::NoContentLength]);
    faults
}

fn closing() -> Fault {
    Fault::Header("Connection", "close".to_owned())
}

fn serve(faults: &[Fault]) -> (Server, String) {
    let server = Server::start();
    let route = faults.iter().cloned().fold(Route::new(kernel()), Route::fault);
    server.route("/kernel", route);
    let url = server.url("/kernel");
    (server, url)
}

/// Behaviour 15: a length that cannot be read, is repeated or absent is no hint of anything: with
/// a pin the body is taken up to its end.
#[test]
fn an_unreadable_length_is_no_hint() {
    for faults in unreadable() {
        let (scene, (_server, url)) = (Scene::new(), serve(&faults));
        assert_eq!(scene.fetch(&url, Some(&pin())).unwrap(), kernel(), "{faults:?}");
    }
}

/// Behaviour 15: a body without a readable length that is cut is never a truncated success.
#[test]
fn a_cut_without_a_length_is_tried_again() {
    for mut faults in unreadable() {
        let server = Server::start();
        let cut = faults.drain(..).fold(Route::new(kernel()), Route::fault);
        server.route("/kernel", cut.fault_on(0, Fault::CutAt(40_000)));
        let scene = Scene::new();
        assert_eq!(scene.fetch(&server.url("/kernel"), Some(&pin())).unwrap(), kernel());
        assert_eq!(server.requests()[1].header("Range"), Some("bytes=40000-"));
    }
}

/// Behaviour 15: without a length and without a pin nobody can tell a whole body from a broken
/// connection: an error that says what to do.
#[test]
fn without_length_and_pin_there_is_a_clear_error() {
    for faults in unreadable() {
        let (scene, (server, url)) = (Scene::new(), serve(&faults));
        let (attempts, error) = failure(scene.fetch(&url, None));
        assert!(matches!(error, TransferError::NoLength), "{faults:?}: {error}");
        assert!(error.to_string().contains("Add its SHA-256 digest"), "{error}");
        assert_eq!((attempts, server.requests().len()), (1, 1));
        assert_eq!(scene.kernel(), None);
    }
}

/// Behaviour 15: a body that is too short for its length is a failure to resume, never a success.
#[test]
fn a_short_body_is_never_a_success() {
    for tagged in [true, false] {
        let (scene, server) = (Scene::new(), Server::start());
        let route = Route::new(kernel()).fault(Fault::ContentLength("100001".to_owned()));
        server.route("/kernel", if tagged { route.etag("\"v1\"") } else { route });
        let (attempts, error) = failure(scene.fetch(&server.url("/kernel"), None));
        assert_eq!(attempts, 5, "{error}");
        assert_eq!(scene.kernel(), None);
        let range = server.requests()[1].header("Range").map(str::to_owned);
        assert_eq!(range.as_deref(), tagged.then_some("bytes=100000-"));
    }
}

/// Behaviour 29: what matches its pin is taken, though more was announced.
#[test]
fn with_a_pin_a_length_that_is_too_large_does_no_harm() {
    let (scene, (server, url)) =
        (Scene::new(), serve(&[Fault::ContentLength("100001".to_owned())]));
    assert_eq!(scene.fetch(&url, Some(&pin())).unwrap(), kernel());
    assert_eq!(server.requests()[1].header("Range"), Some("bytes=100000-"));
}

/// Behaviour 15: nothing past the length is taken.
#[test]
fn bytes_past_the_length_are_not_taken() {
    for pin in [None, Some(pin())] {
        let (scene, (server, url)) = (Scene::new(), serve(&[Fault::ExtraBytes(5000)]));
        assert_eq!(scene.fetch(&url, pin.as_deref()).unwrap(), kernel());
        assert_eq!(server.requests().len(), 1);
    }
}

/// Behaviour 15: nothing past the announced part is taken when a transfer goes on, either.
#[test]
fn bytes_past_a_part_are_not_taken() {
    for framing in [Fault::ExtraBytes(5000), Fault::NoContentLength, Fault::Chunked] {
        let (scene, server) = (Scene::new(), Server::start());
        let route = Route::new(kernel())
            .etag("\"v1\"")
            .fault_on(0, Fault::CutAt(40_000))
            .fault_on(1, framing.clone())
            .fault_on(1, Fault::ExtraBytes(5000));
        server.route("/kernel", route);
        assert_eq!(scene.fetch(&server.url("/kernel"), None).unwrap(), kernel(), "{framing:?}");
        assert_eq!(server.requests().len(), 2, "{framing:?}");
    }
}

/// Behaviour 15: nor where only the part has a size, and not the whole.
#[test]
fn bytes_past_a_part_of_an_unmeasured_whole_are_not_taken() {
    let (scene, server) = (Scene::new(), Server::start());
    let route = Route::new(kernel())
        .etag("\"v1\"")
        .fault_on(0, Fault::Chunked)
        .fault_on(0, Fault::CutAt(40_000))
        .fault_on(1, Fault::ContentRange("bytes 40000-99999/*".to_owned()))
        .fault_on(1, Fault::NoContentLength)
        .fault_on(1, Fault::ExtraBytes(5000));
    server.route("/kernel", route);
    assert_eq!(scene.fetch(&server.url("/kernel"), Some(&pin())).unwrap(), kernel());
    assert_eq!(server.requests().len(), 2);
}

/// Behaviour 15: a length that is too small frames the body all the same: with a pin that is a
/// mismatch.
#[test]
fn a_length_that_is_too_small_is_a_mismatch() {
    for length in ["99999", "1"] {
        let (scene, (_server, url)) =
            (Scene::new(), serve(&[Fault::ContentLength(length.to_owned())]));
        let error = scene.fetch(&url, Some(&pin())).unwrap_err();
        assert!(matches!(error, ImageError::Mismatch { .. }), "{error}");
        scene.assert_nothing_is_left();
    }
}

/// Behaviour 15: a chunked body has an end of its own, so that it needs neither length nor pin.
#[test]
fn a_chunked_body_ends_surely() {
    for pin in [None, Some(pin())] {
        let (scene, (server, url)) = (Scene::new(), serve(&[Fault::Chunked]));
        assert_eq!(scene.fetch(&url, pin.as_deref()).unwrap(), kernel());
        assert_eq!(server.requests().len(), 1);
    }
}

/// Behaviour 15: a chunked body that is cut is not whole, even between two chunks.
#[test]
fn a_chunked_body_without_its_last_chunk_is_not_whole() {
    for at in [0, 40_000, SIZE as u64] {
        for pin in [None, Some(pin())] {
            let (scene, server) = (Scene::new(), Server::start());
            let route = Route::new(kernel())
                .etag("\"v1\"")
                .fault(Fault::Chunked)
                .fault_on(0, Fault::CutAt(at));
            server.route("/kernel", route);
            let fetched = scene.fetch(&server.url("/kernel"), pin.as_deref());
            assert_eq!(fetched.unwrap(), kernel(), "cut at {at}");
        }
    }
}

/// Behaviour 15: chunks and a length that contradict each other: the chunks count (RFC 9112
/// section 6.3).
#[test]
fn chunks_count_more_than_a_length() {
    let faults = [Fault::Chunked, Fault::ContentLength("5".to_owned())];
    let (scene, (_server, url)) = (Scene::new(), serve(&faults));
    assert_eq!(scene.fetch(&url, None).unwrap(), kernel());
}

/// Behaviour 15: an answer that is no HTTP at all is an error.
#[test]
fn what_is_not_http_is_an_error() {
    for head in [&b"SSH-2.0-OpenSSH_9.2\r\n\r\n"[..], b"HTTP/1.1 abc\r\n\r\n", b"\0\0\0\0\r\n\r\n"]
    {
        let (scene, (_server, url)) =
            (Scene::new(), serve(&[Fault::RawHead(head.to_vec()), Fault::CutAt(10)]));
        failure(scene.fetch(&url, Some(&pin())));
        assert_eq!(scene.kernel(), None);
    }
}
