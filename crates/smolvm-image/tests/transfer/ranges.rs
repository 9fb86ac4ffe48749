//! Servers that get ranges wrong, and files that change in the middle: never a mix of two
//! versions.

use smolvm_image::{ImageError, TransferError};
use smolvm_testkit::content::sha256_hex;
use smolvm_testkit::{Fault, Route, Server};

use crate::bytes::{Bytes, noise};
use crate::scene::{Scene, failure};

const SIZE: usize = 100_000;
const CUT: u64 = 40_000;
const DATE: &str = "Tue, 01 Jul 2025 10:00:00 GMT";
const NOW: &str = "Wed, 02 Jul 2025 10:00:00 GMT";

fn old() -> Bytes {
    noise(20, SIZE)
}

fn new() -> Bytes {
    noise(21, SIZE)
}

/// The first version, whose first answer is cut.
fn cut() -> Route {
    Route::new(old()).etag("\"v1\"").fault_on(0, Fault::CutAt(CUT))
}

/// From the second request on, there is another version.
fn replaced() -> Route {
    cut().fault_from(1, Fault::replaced("\"v2\"", new()))
}

/// Fetches from one route with and without a pin, and expects these bytes each time.
fn expect(route: &Route, wanted: &Bytes, what: &str) {
    let pin = sha256_hex(wanted);
    for pin in [None, Some(pin.as_str())] {
        let (scene, server) = (Scene::new(), Server::start());
        server.route("/kernel", route.clone());
        let fetched = scene.fetch(&server.url("/kernel"), pin);
        assert!(fetched.is_ok(), "{what}, pin {pin:?}: {fetched:?}");
        assert_eq!(&fetched.unwrap(), wanted, "{what}, pin {pin:?}");
        assert_eq!(scene.leavings(), [], "{what}");
    }
}

/// Behaviour 14: a server without ranges sends everything again, and that is what is taken.
#[test]
fn without_ranges_a_transfer_starts_over() {
    expect(&cut().fault(Fault::IgnoreRange), &old(), "no ranges");
    expect(
        &cut().fault(Fault::IgnoreRange).fault_on(1, Fault::CutAt(70_000)),
        &old(),
        "no ranges, cut twice",
    );
}

/// Behaviour 14: a part that was not asked for is not taken.
#[test]
fn another_part_than_the_one_asked_for_is_not_taken() {
    for content_range in [
        "bytes 0-99999/100000",
        "bytes 39999-99998/100000",
        "bytes 40001-99999/100000",
        "bytes 40000-50000/100000",
        "bytes 40000-99999/100001",
        "bytes 40000-99999/99999",
        "bytes */100000",
        "bytes 99999-40000/100000",
        "items 40000-99999/100000",
        "40000-99999",
        "",
    ] {
        let fault = Fault::ContentRange(content_range.to_owned());
        expect(&cut().fault_on(1, fault), &old(), content_range);
    }
    expect(&cut().fault_on(1, Fault::WrongRange), &old(), "another part");
    expect(&cut().fault_on(1, Fault::WithoutHeader("Content-Range")), &old(), "no Content-Range");
}

/// Behaviour 14: a server that gets every range wrong can still serve the whole.
#[test]
fn after_a_wrong_part_no_further_part_is_asked_for() {
    let (scene, server) = (Scene::new(), Server::start());
    let route = cut().fault(Fault::WrongRange).fault_on(2, Fault::CutAt(CUT));
    server.route("/kernel", route);
    assert_eq!(scene.fetch(&server.url("/kernel"), None).unwrap(), old());
    let ranges = server
        .requests()
        .iter()
        .map(|request| request.header("Range").is_some())
        .collect::<Vec<_>>();
    assert_eq!(ranges, [false, true, false, false]);
}

/// Behaviour 14: a part whose size is unknown (`*`) is taken.
#[test]
fn a_part_of_unknown_size_is_taken() {
    let fault = Fault::ContentRange("bytes 40000-99999/*".to_owned());
    expect(&cut().fault_on(1, fault), &old(), "*");
}

/// Behaviour 14: 416 to a range in the middle means another version, or a server that is wrong:
/// the transfer starts over.
#[test]
fn not_satisfiable_starts_over() {
    expect(&cut().fault_on(1, Fault::RangeNotSatisfiable), &old(), "416");
    let other_size = Fault::Header("Content-Range", "bytes */99999".to_owned());
    let other_size = cut().fault_on(1, Fault::RangeNotSatisfiable).fault_on(1, other_size);
    expect(&other_size, &old(), "416 of another size");
    let unmeasured = cut().fault_on(0, Fault::Chunked).fault_on(1, Fault::RangeNotSatisfiable);
    expect(&unmeasured, &old(), "416 of a size that was not announced before");
}

/// Behaviour 14: a 416 that says that there is nothing after the place where the connection
/// broke, against the size that was announced, does not make half a file a whole one.
#[test]
fn not_satisfiable_never_makes_half_a_file_whole() {
    let lie = Fault::Header("Content-Range", "bytes */40000".to_owned());
    let route = cut().fault_on(1, Fault::RangeNotSatisfiable).fault_on(1, lie);
    expect(&route, &old(), "416 that contradicts");
}

/// Behaviour 14: a file that changed in the middle is fetched anew, and that version alone.
#[test]
fn a_version_that_changes_in_the_middle_is_fetched_anew() {
    expect(&replaced(), &new(), "a server that knows If-Range");
    expect(&replaced().fault(Fault::IgnoreRange), &new(), "a server without ranges");
    let date = Route::new(old())
        .last_modified(DATE)
        .header("Date", NOW)
        .fault_on(0, Fault::CutAt(CUT))
        .fault_from(1, Fault::replaced("\"v2\"", new()))
        .fault_from(1, Fault::Header("Last-Modified", NOW.to_owned()));
    expect(&date, &new(), "by date");
}

/// Behaviour 14: a server that sends a part of another version, as if `If-Range` were not there,
/// is seen through by its validators or by the size.
#[test]
fn a_part_of_another_version_is_never_mixed_in() {
    expect(&replaced().fault(Fault::IgnoreIfRange), &new(), "by entity tag");
    let untagged = replaced().fault(Fault::IgnoreIfRange).fault_on(1, Fault::WithoutHeader("ETag"));
    expect(&untagged, &new(), "by the tag that is missing");
    let date = Route::new(old())
        .last_modified(DATE)
        .header("Date", NOW)
        .fault_on(0, Fault::CutAt(CUT))
        .fault(Fault::IgnoreIfRange)
        .fault_from(1, Fault::replaced("\"v2\"", new()))
        .fault_from(1, Fault::Header("Last-Modified", NOW.to_owned()));
    expect(&date, &new(), "by date");
    let size = Route::new(old())
        .etag("\"v1\"")
        .fault_on(0, Fault::CutAt(CUT))
        .fault(Fault::IgnoreIfRange)
        .fault_from(1, Fault::replaced("\"v1\"", noise(22, SIZE + 1)));
    expect(&size, &noise(22, SIZE + 1), "by size");
}

/// Behaviour 14: where the server has no validator the digest sees it, and the image is still
/// fetched: the new version as a whole.
#[test]
fn with_a_pin_and_no_validator_a_mix_is_fetched_anew() {
    let (scene, server) = (Scene::new(), Server::start());
    let route = Route::new(old())
        .fault_on(0, Fault::CutAt(CUT))
        .fault_from(1, Fault::replaced("\"v2\"", new()))
        .fault(Fault::WithoutHeader("ETag"));
    server.route("/kernel", route);
    let pin = sha256_hex(&new());
    assert_eq!(scene.fetch(&server.url("/kernel"), Some(&pin)).unwrap(), new());
}

/// Behaviour 14: the pin is that of the version that was replaced: the new one is a mismatch, and
/// the bytes of neither are under the final name.
#[test]
fn a_pin_of_the_replaced_version_is_a_mismatch() {
    for route in [replaced(), replaced().fault(Fault::IgnoreIfRange)] {
        let (scene, server) = (Scene::new(), Server::start());
        server.route("/kernel", route);
        let error = scene.fetch(&server.url("/kernel"), Some(&sha256_hex(&old()))).unwrap_err();
        match error {
            ImageError::Mismatch { actual, .. } => {
                assert_eq!(actual.to_string(), sha256_hex(&new()));
            }
            error => panic!("{error}"),
        }
        scene.assert_nothing_is_left();
    }
}

/// Behaviour 14: a file that changes at every request ends with an error, not with a mix.
#[test]
fn a_file_that_never_holds_still_is_an_error() {
    let (scene, server) = (Scene::new(), Server::start());
    let route = (0..8_u64).fold(Route::new(old()).etag("\"v\""), |route, n| {
        let version = Fault::replaced(&format!("\"v{n}\""), noise(100 + n, SIZE));
        route.fault_on(usize::try_from(n).unwrap(), version)
    });
    server.route("/kernel", route.fault(Fault::CutAt(CUT)));
    let (attempts, error) = failure(scene.fetch(&server.url("/kernel"), None));
    assert_eq!(attempts, 5);
    assert!(matches!(error, TransferError::Connection { .. }), "{error}");
    assert_eq!(scene.kernel(), None);
}

/// Behaviour 14: a 206 that nobody asked for is no answer.
#[test]
fn a_part_that_nobody_asked_for_is_refused() {
    let (scene, server) = (Scene::new(), Server::start());
    server.route("/kernel", Route::new(old()).fault(Fault::Status(206)));
    let (attempts, error) = failure(scene.fetch(&server.url("/kernel"), None));
    assert_eq!(attempts, 1, "{error}");
    scene.assert_nothing_is_left();
}
