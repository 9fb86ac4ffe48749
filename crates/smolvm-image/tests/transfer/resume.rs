//! A transfer goes on from where an earlier run was broken off.

use smolvm_image::{Event, ImageError, TransferError};
use smolvm_testkit::content::sha256_hex;
use smolvm_testkit::{Fault, Gate, Request, Route, Server};

use crate::bytes::noise;
use crate::scene::{Scene, failure, received};

const SIZE: usize = 100_000;
const CUT: u64 = 40_000;
const DATE: &str = "Tue, 01 Jul 2025 10:00:00 GMT";

/// Breaks a first run off at [`CUT`], of which it keeps so many bytes, then completes the image
/// with another manager; gives back the requests.
fn run_twice(route: Route, pinned: bool, kept: Option<u64>) -> Vec<Request> {
    let (scene, server) = (Scene::new(), Server::start());
    let kernel = noise(7, SIZE);
    server.route("/kernel", route.fault_on(0, Fault::CutAt(CUT)));
    let pin = sha256_hex(&kernel);
    let pin = pinned.then_some(pin.as_str());
    let url = server.url("/kernel");

    let first = scene.builder(&url, pin).build().unwrap();
    scene.cancel_when(&first, |event| matches!(event, Event::Retrying { .. }));
    drop(first);
    assert_eq!(scene.kernel(), None);
    // What no run can go on from is not kept.
    assert_eq!(scene.partial_length(), kept);
    scene.events();

    assert_eq!(scene.fetch(&url, pin).unwrap(), kernel);
    assert_eq!(scene.leavings(), []);
    let requests = server.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(received(&scene.events()), Some(requests[1].body_bytes));
    requests
}

fn kernel() -> Route {
    Route::new(noise(7, SIZE))
}

/// Behaviour 11: with an entity tag the next run asks for what is missing and nothing else, if it
/// is still the same version.
#[test]
fn an_etag_vouches_for_the_bytes_of_an_earlier_run() {
    for pinned in [true, false] {
        let requests = run_twice(kernel().etag("\"v1\""), pinned, Some(CUT));
        assert_eq!(requests[1].header("Range"), Some("bytes=40000-"));
        assert_eq!(requests[1].header("If-Range"), Some("\"v1\""));
        assert_eq!(requests[1].status, 206);
        assert_eq!(requests[0].body_bytes + requests[1].body_bytes, SIZE as u64);
    }
}

/// Behaviour 11: so does a date of modification that is long past.
#[test]
fn a_strong_date_vouches_for_the_bytes_of_an_earlier_run() {
    let now = "Wed, 02 Jul 2025 10:00:00 GMT";
    let requests = run_twice(kernel().last_modified(DATE).header("Date", now), false, Some(CUT));
    assert_eq!(requests[1].header("If-Range"), Some(DATE));
    assert_eq!(requests[1].body_bytes, SIZE as u64 - CUT);
}

/// Behaviour 11: a pin vouches for the bytes so far where the server has no validator.
#[test]
fn a_pin_vouches_for_the_bytes_of_an_earlier_run() {
    for route in [kernel(), kernel().etag("W/\"weak\"")] {
        let requests = run_twice(route, true, Some(CUT));
        assert_eq!(requests[1].header("Range"), Some("bytes=40000-"));
        assert_eq!(requests[1].header("If-Range"), None);
        assert_eq!(requests[1].body_bytes, SIZE as u64 - CUT);
    }
}

/// Behaviour 11: with neither, the next run begins at the first byte.
#[test]
fn nothing_vouches_for_bytes_without_validator_and_pin() {
    // It may have changed twice within the second.
    let changed_just_now = kernel().last_modified(DATE).header("Date", DATE);
    for route in
        [kernel(), kernel().etag("W/\"weak\""), kernel().last_modified(DATE), changed_just_now]
    {
        let requests = run_twice(route, false, None);
        assert_eq!(requests[1].header("Range"), None);
        assert_eq!(requests[1].body_bytes, SIZE as u64);
    }
}

/// Behaviour 11: a transfer that was cancelled in the middle of a body keeps what came.
#[test]
fn a_cancelled_transfer_goes_on_in_the_next_run() {
    let (scene, server, gate) = (Scene::new(), Server::start(), Gate::new());
    let kernel = noise(8, 3_000_000);
    let pin = sha256_hex(&kernel);
    let held = Fault::HoldAt(2_000_000, gate.clone());
    server.route("/kernel", Route::new(kernel.clone()).etag("\"v1\"").fault_on(0, held));
    let url = server.url("/kernel");
    let manager = scene.builder(&url, Some(&pin)).build().unwrap();
    scene.cancel_in_the_middle(&manager);
    let kept = scene.partial_length().unwrap();
    assert!((1..=2_000_000).contains(&kept), "{kept}");

    assert_eq!(scene.fetch(&url, Some(&pin)).unwrap(), kernel);
    let requests = server.requests();
    assert_eq!(requests[1].header("Range"), Some(format!("bytes={kept}-").as_str()));
    assert_eq!(requests[1].body_bytes, 3_000_000 - kept);
}

/// Behaviour 11: an error keeps the bytes as well.
#[test]
fn a_transfer_that_failed_goes_on_in_the_next_run() {
    let (scene, server) = (Scene::new(), Server::start());
    let bytes = noise(7, SIZE);
    let pin = sha256_hex(&bytes);
    let route = kernel().etag("\"v1\"").fault_until(2, Fault::ResetAt(30_000));
    server.route("/kernel", route);
    let url = server.url("/kernel");
    let impatient = scene.builder(&url, Some(&pin)).attempts(2).build().unwrap();
    let (attempts, error) = failure(scene.ensure(&impatient));
    assert_eq!(attempts, 2);
    assert!(matches!(error, TransferError::Connection { .. }), "{error}");
    assert_eq!(scene.partial_length(), Some(60_000));
    assert_eq!(scene.fetch(&url, Some(&pin)).unwrap(), bytes);
    assert_eq!(server.bytes_sent(), SIZE as u64);
}

/// Behaviour 11: bytes that were damaged between two runs cost a second try, never the image.
#[test]
fn damaged_bytes_of_an_earlier_run_are_fetched_again() {
    let (scene, server) = (Scene::new(), Server::start());
    let bytes = noise(7, SIZE);
    let pin = sha256_hex(&bytes);
    server.route("/kernel", kernel().etag("\"v1\"").fault_on(0, Fault::CutAt(CUT)));
    let url = server.url("/kernel");
    let impatient = scene.builder(&url, Some(&pin)).attempts(1).build().unwrap();
    failure(scene.ensure(&impatient));
    let part = scene.partial().unwrap();
    let mut partial = fs_err::read(&part).unwrap();
    partial[7] ^= 0x80;
    fs_err::write(&part, partial).unwrap();

    assert_eq!(scene.fetch(&url, Some(&pin)).unwrap(), bytes);
    assert_eq!(scene.leavings(), []);
}

/// Behaviour 26: a partial file that is complete is verified and adopted without any request.
#[test]
fn a_complete_partial_file_needs_no_request() {
    for (etag, pinned) in [("\"v1\"", true), ("\"v1\"", false), ("W/\"weak\"", true)] {
        let (scene, server) = (Scene::new(), Server::start());
        let bytes = noise(7, SIZE);
        let pin = sha256_hex(&bytes);
        let pin = pinned.then_some(pin.as_str());
        server.route("/kernel", kernel().etag(etag).fault_on(0, Fault::CutAt(CUT)));
        let url = server.url("/kernel");
        let impatient = scene.builder(&url, pin).attempts(1).build().unwrap();
        failure(scene.ensure(&impatient));
        // As if the first run had been killed between the last byte and the rename.
        let part = scene.partial().unwrap();
        fs_err::write(part, &bytes).unwrap();

        assert_eq!(scene.fetch(&url, pin).unwrap(), bytes);
        assert_eq!(server.requests().len(), 1, "{etag} {pinned}");
        assert_eq!(received(&scene.events()), Some(0));
        assert_eq!(scene.leavings(), []);
    }
}

/// Behaviour 26: where the size was never announced, the pin says that the file is complete.
#[test]
fn a_complete_partial_file_of_unknown_size_needs_no_request() {
    let (scene, server) = (Scene::new(), Server::start());
    let bytes = noise(7, SIZE);
    let pin = sha256_hex(&bytes);
    let route = kernel().fault(Fault::NoContentLength).fault_on(0, Fault::ResetAt(SIZE as u64));
    server.route("/kernel", route);
    let url = server.url("/kernel");
    assert_eq!(scene.fetch(&url, Some(&pin)).unwrap(), bytes);
    assert_eq!(server.requests().len(), 1);
}

/// Behaviours 11 and 14: many bytes of an earlier run that turn out to be of no use are thrown
/// away, though they are still being read.
#[test]
fn a_large_partial_file_of_no_use_is_not_in_the_way() {
    let (scene, server) = (Scene::new(), Server::start());
    let large = noise(12, 48 << 20);
    let route = Route::new(large).etag("\"v1\"").fault(Fault::CutAt(40 << 20));
    server.route("/kernel", route);
    let url = server.url("/kernel");
    let impatient = scene.builder(&url, None).attempts(1).build().unwrap();
    failure(scene.ensure(&impatient));
    assert_eq!(scene.partial_length(), Some(40 << 20));
    server.route("/kernel", kernel().etag("\"v2\""));
    assert_eq!(scene.fetch(&url, None).unwrap(), noise(7, SIZE));
    assert_eq!(server.requests()[1].header("If-Range"), Some("\"v1\""));
    assert_eq!(scene.leavings(), []);
}

/// Behaviour 11: an image whose URL has changed is never put together from two places, unless a
/// pin vouches for it.
#[test]
fn the_bytes_of_another_url_are_continued_for_a_pin_alone() {
    for pinned in [true, false] {
        let (scene, server) = (Scene::new(), Server::start());
        let (bytes, other) = (noise(7, SIZE), noise(9, SIZE));
        let pin = sha256_hex(&bytes);
        let pin = pinned.then_some(pin.as_str());
        server.route("/a", kernel().etag("\"v1\"").fault_on(0, Fault::CutAt(CUT)));
        let at_b = if pinned { bytes.clone() } else { other.clone() };
        server.route("/b", Route::new(at_b.clone()).etag("\"v1\""));
        let first = scene.builder(&server.url("/a"), pin).attempts(1).build().unwrap();
        failure(scene.ensure(&first));
        assert_eq!(scene.fetch(&server.url("/b"), pin).unwrap(), at_b);
        let asked = &server.requests_for("/b")[0];
        assert_eq!(asked.header("Range"), pinned.then_some("bytes=40000-"));
        assert_eq!(asked.header("If-Range"), None);
    }
}

/// Behaviour 11: nothing under the final name before every byte is there.
#[test]
fn the_final_name_stays_absent_during_a_transfer() {
    let (scene, server, gate) = (Scene::new(), Server::start(), Gate::new());
    let bytes = noise(7, SIZE);
    let held = Fault::HoldAt(SIZE as u64 - 1, gate.clone());
    server.route("/kernel", kernel().fault(held));
    let manager = scene.builder(&server.url("/kernel"), None).build().unwrap();
    std::thread::scope(|scope| {
        let running = scope.spawn(|| scene.ensure(&manager));
        gate.wait_for_arrivals(1);
        assert_eq!(scene.kernel(), None);
        assert!(!manager.is_cached(crate::scene::IMAGE));
        gate.open();
        let fetched: Result<_, ImageError> = running.join().unwrap();
        assert_eq!(fetched.unwrap(), bytes);
    });
}
