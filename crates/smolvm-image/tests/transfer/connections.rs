//! Several connections for one file: the same bytes, whatever goes wrong with some of them.

use smolvm_image::Event;
use smolvm_testkit::content::sha256_hex;
use smolvm_testkit::{Fault, Route, Server};

use crate::bytes::{Bytes, noise};
use crate::scene::Scene;

const LENGTH: usize = (20 << 20) + 12_345;

/// What one connection brings: slow enough for others to be opened.
const SLOW: Fault = Fault::Throttle { bytes_per_second: 12_000_000 };

/// A file of which every connection is slow.
fn slow(content: &Bytes) -> Route {
    Route::new(content.clone()).etag("\"v1\"").fault(SLOW)
}

fn parts_of(server: &Server) -> Vec<String> {
    let requests = server.requests_for("/kernel");
    requests.iter().filter_map(|request| request.header("range").map(str::to_owned)).collect()
}

#[test]
fn a_slow_connection_gets_others_beside_it() {
    let content = noise(1, LENGTH);
    let pin = sha256_hex(&content);
    for pin in [Some(pin.as_str()), None] {
        let (scene, server) = (Scene::new(), Server::start());
        server.route("/kernel", slow(&content));
        let kernel = scene.fetch(&server.url("/kernel"), pin).unwrap();
        assert_eq!(kernel, content);
        let parts = parts_of(&server);
        assert!(parts.len() >= 10, "{parts:?}");
        // One connection fetches several parts.
        let requests = server.requests_for("/kernel");
        let opened = requests.iter().filter(|request| !request.reuses_connection).count();
        assert!(opened <= 9 && opened < parts.len(), "{opened} connections: {parts:?}");
        // Nothing is fetched twice, but for what was on its way when others took over.
        let sent = server.bytes_sent_for("/kernel");
        assert!(sent < (LENGTH as u64) + (3 << 20), "{sent} bytes were sent");
    }
}

#[test]
fn one_connection_is_all_where_no_more_may_be_had() {
    let content = noise(2, LENGTH);
    let pin = sha256_hex(&content);
    // It was asked for one.
    let (scene, server) = (Scene::new(), Server::start());
    server.route("/kernel", slow(&content));
    let url = server.url("/kernel");
    let manager = scene.builder(&url, Some(&pin)).connections(1).build().unwrap();
    assert_eq!(scene.ensure(&manager).unwrap(), content);
    assert_eq!(server.hits("/kernel"), 1);
    // The server has no ranges, or nothing that tells one version from another.
    for (route, pin) in [
        (slow(&content).fault(Fault::WithoutHeader("Accept-Ranges")), Some(pin.as_str())),
        (Route::new(content.clone()).fault(SLOW), None),
    ] {
        let (scene, server) = (Scene::new(), Server::start());
        server.route("/kernel", route);
        assert_eq!(scene.fetch(&server.url("/kernel"), pin).unwrap(), content);
        assert_eq!(server.hits("/kernel"), 1);
    }
}

/// Behaviours 12 and 14: the others are refused, broken, or bring something else. Each fault from
/// the first of them on, and from a later one on, when they are trusted.
#[test]
fn whatever_the_others_bring_the_bytes_are_right() {
    let content = noise(3, LENGTH);
    let pin = sha256_hex(&content);
    let faults = [
        Fault::Status(503),
        Fault::Status(404),
        Fault::CloseUnanswered,
        Fault::CutInHead,
        Fault::CutAt(300_000),
        Fault::ResetAt(300_000),
        Fault::IgnoreRange,
        Fault::IgnoreIfRange,
        Fault::WrongRange,
        Fault::RangeNotSatisfiable,
        Fault::ContentRange("bytes 0-1/2".to_owned()),
        Fault::Chunked,
        Fault::NoContentLength,
        Fault::ErrorPage,
        Fault::Header("Content-Encoding", "gzip".to_owned()),
        Fault::replaced("\"v2\"", noise(4, LENGTH)),
    ];
    let fetch = |fault: &Fault, pin: Option<&str>, from: usize| {
        let (scene, server) = (Scene::new(), Server::start());
        server.route("/kernel", slow(&content).fault_from(from, fault.clone()));
        match scene.fetch(&server.url("/kernel"), pin) {
            Ok(kernel) => assert_eq!(kernel, content, "{fault:?} from {from}"),
            // The file is gone from the server, and the first connection with it.
            Err(error) => assert!(from > 1 && is_the_end(fault), "{fault:?}: {error}"),
        }
    };
    let variants = [(Some(pin.as_str()), 1), (None, 1), (Some(pin.as_str()), 6)];
    for faults in faults.chunks(4) {
        std::thread::scope(|scope| {
            for (fault, (pin, from)) in faults.iter().flat_map(|f| variants.map(|v| (f, v))) {
                let fetch = &fetch;
                scope.spawn(move || fetch(fault, pin, from));
            }
        });
    }
}

/// Whether a server that does this to every request has nothing to give any more.
fn is_the_end(fault: &Fault) -> bool {
    matches!(
        fault,
        Fault::Status(_)
            | Fault::CloseUnanswered
            | Fault::CutInHead
            | Fault::Replaced { .. }
            | Fault::ErrorPage
            | Fault::Header(..)
    )
}

/// A part that is damaged on its way is found by the pin, and everything is fetched once more.
#[test]
fn a_damaged_part_is_found() {
    let content = noise(5, LENGTH);
    let pin = sha256_hex(&content);
    let (scene, server) = (Scene::new(), Server::start());
    // In the tenth request for a part, whichever part that is, and in none after it.
    let flips = (0..160).map(|part| Fault::FlipByteAt((part << 17) + 5000));
    let route = flips.fold(slow(&content), |route, flip| route.fault_on(10, flip));
    server.route("/kernel", route);
    let kernel = scene.fetch(&server.url("/kernel"), Some(&pin)).unwrap();
    assert_eq!(kernel, content);
    let whole =
        server.requests_for("/kernel").iter().filter(|r| r.header("range").is_none()).count();
    assert_eq!(whole, 2, "once more from the beginning");
}

/// Where a server ends every connection after its answer, or closes it unseen, others are made.
#[test]
fn connections_that_do_not_go_on_are_made_anew() {
    let content = noise(8, LENGTH);
    let pin = sha256_hex(&content);
    let (scene, server) = (Scene::new(), Server::start());
    server.route("/kernel", slow(&content).fault(Fault::Header("Connection", "close".to_owned())));
    assert_eq!(scene.fetch(&server.url("/kernel"), Some(&pin)).unwrap(), content);
    assert!(server.requests_for("/kernel").iter().all(|request| !request.reuses_connection));

    let (scene, server) = (Scene::new(), Server::start());
    let dropped = [6, 8, 10]
        .into_iter()
        .fold(slow(&content), |route, request| route.fault_on(request, Fault::CloseUnanswered));
    server.route("/kernel", dropped);
    assert_eq!(scene.fetch(&server.url("/kernel"), Some(&pin)).unwrap(), content);
}

/// Behaviour 11: what has come in order is kept, and the next run goes on from there.
#[test]
fn a_transfer_over_several_connections_is_continued() {
    let content = noise(6, LENGTH);
    let pin = sha256_hex(&content);
    let (scene, server) = (Scene::new(), Server::start());
    server.route("/kernel", slow(&content));
    let url = server.url("/kernel");
    let manager = scene.builder(&url, Some(&pin)).build().unwrap();
    scene.cancel_when(
        &manager,
        |event| matches!(event, Event::Progress { done, .. } if *done > 15 << 20),
    );
    assert!(parts_of(&server).len() > 1, "it was over several connections");
    let before = server.bytes_sent_for("/kernel");
    assert_eq!(scene.fetch(&url, Some(&pin)).unwrap(), content);
    let sent = server.bytes_sent_for("/kernel") - before;
    assert!(sent <= 7 << 20, "{sent} bytes were sent for the rest");
}

/// Behaviour 12: the first connection breaks while others are at work.
#[test]
fn the_first_connection_may_break() {
    let content = noise(7, LENGTH);
    let pin = sha256_hex(&content);
    for fault in [Fault::ResetAt(3 << 20), Fault::CutAt(3 << 20), Fault::ResetAt(2_000_000)] {
        let (scene, server) = (Scene::new(), Server::start());
        server.route("/kernel", slow(&content).fault_on(0, fault));
        assert_eq!(scene.fetch(&server.url("/kernel"), Some(&pin)).unwrap(), content);
    }
}
