//! Every fault does on the wire what its documentation says.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

mod wire;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use smolvm_testkit::{Fault, Gate, Route, Server, content};
use wire::{End, Reply, get, read_all};

const LENGTH: usize = 200_000;

fn bytes() -> Vec<u8> {
    content::noise(1, LENGTH)
}

/// The reply to a GET of `bytes()` with these faults and request headers.
fn reply_to(headers: &[&str], faults: impl IntoIterator<Item = Fault>) -> Reply {
    let server = Server::start();
    let route = Route::new(bytes()).etag("\"v1\"");
    server.route("/k", faults.into_iter().fold(route, Route::fault));
    get(&server.host(), "/k", headers)
}

fn reply(faults: impl IntoIterator<Item = Fault>) -> Reply {
    reply_to(&[], faults)
}

/// The body out of its chunks, and whether the last chunk was there.
fn dechunk(mut wire: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    while let Some(at) = wire.windows(2).position(|two| two == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&wire[..at]).expect("hex"), 16);
        let size = size.expect("a chunk size");
        if size == 0 {
            return (body, true);
        }
        body.extend_from_slice(&wire[at + 2..at + 2 + size]);
        wire = &wire[at + 2 + size + 2..];
    }
    (body, false)
}

#[test]
fn cut_is_an_orderly_close_after_n_bytes() {
    for at in [0, 1, 65_537, LENGTH - 1] {
        let reply = reply([Fault::CutAt(at as u64)]);
        assert_eq!(reply.header("content-length"), Some("200000"));
        assert_eq!((reply.end, reply.body.len()), (End::Closed, at));
        assert!(reply.body == bytes()[..at], "other bytes");
    }
}

#[test]
fn reset_is_a_rst_after_n_bytes() {
    for at in [0, 1, LENGTH - 1] {
        let reply = reply([Fault::ResetAt(at as u64)]);
        assert_eq!((reply.end, reply.body.len()), (End::Reset, at));
        assert!(reply.body == bytes()[..at], "other bytes");
    }
}

#[test]
fn reset_loses_no_byte_before_it_to_a_slow_reader() {
    let server = Server::start();
    let at = 1 << 20;
    server.route("/k", Route::new(vec![0; 2 << 20]).fault(Fault::ResetAt(at)));
    let mut stream = TcpStream::connect(server.host()).expect("a connection");
    stream.write_all(b"GET /k HTTP/1.1\r\n\r\n").expect("open");
    // The socket buffers hold all of it before the first byte is read.
    std::thread::sleep(Duration::from_millis(200));
    let (wire, end) = read_all(&mut stream, usize::MAX);
    let reply = wire::split(&wire, end);
    assert_eq!(reply.end, End::Reset);
    assert_eq!(reply.body.len() as u64, at);
}

#[test]
fn stall_sends_nothing_more_until_its_time_is_over() {
    let stalled = reply([Fault::stall_at(1000)]);
    assert_eq!((stalled.end, stalled.body.len()), (End::Silent, 1000));
    let resumed = reply([Fault::StallAt(1000, Duration::from_millis(10))]);
    assert_eq!((resumed.end, resumed.body.len()), (End::Closed, LENGTH));
}

#[test]
fn hold_waits_for_the_gate() {
    let (server, gate) = (Server::start(), Gate::new());
    let route = Route::new(bytes()).fault(Fault::HoldAt(1000, gate.clone()));
    server.route("/k", route);
    let host = server.host();
    let client = std::thread::spawn(move || get(&host, "/k", &[]).body.len());
    gate.wait_for_arrivals(1);
    assert_eq!(server.bytes_sent_for("/k"), 1000);
    gate.open();
    assert_eq!(client.join().expect("the client"), LENGTH);
}

#[test]
fn throttle_spreads_the_body() {
    let server = Server::start();
    let bytes_per_second = 1000;
    server.route("/k", Route::new(bytes()).fault(Fault::Throttle { bytes_per_second }));
    let mut stream = TcpStream::connect(server.host()).expect("a connection");
    stream.write_all(b"GET /k HTTP/1.1\r\n\r\n").expect("open");
    let mut block = vec![0; LENGTH];
    // Whatever the machine's speed, no single read gets more than a few steps of 50 bytes.
    for _ in 0..5 {
        let count = stream.read(&mut block).expect("some bytes");
        assert!((1..LENGTH / 2).contains(&count), "{count}");
    }
}

#[test]
fn heads_go_wrong() {
    let unanswered = reply([Fault::CloseUnanswered]);
    assert_eq!((&*unanswered.head, unanswered.end), ("", End::Closed));
    for (fault, end) in [(Fault::StallInHead, End::Silent), (Fault::CutInHead, End::Closed)] {
        let reply = reply([fault]);
        assert_eq!(reply.end, end);
        assert!(reply.head.starts_with("HTTP/1.1 200 OK\r\n"), "{}", reply.head);
        assert!(!reply.head.ends_with("\r\n\r\n"), "{}", reply.head);
        assert!(reply.body.is_empty());
    }
    let slow = reply([Fault::SlowHead(Duration::from_millis(10))]);
    assert_eq!(slow.body.len(), LENGTH);
    let raw = reply([Fault::RawHead(b"ICY 200 OK\r\n\r\n".to_vec())]);
    assert_eq!((&*raw.head, raw.body.len()), ("ICY 200 OK\r\n\r\n", LENGTH));
    let interim = reply([Fault::Interim(103)]);
    assert_eq!(interim.status(), 103);
    assert!(interim.body.starts_with(b"HTTP/1.1 200 OK\r\n"));
    let dressed = reply([Fault::Header("X-A", "1".into()), Fault::WithoutHeader("ETag")]);
    assert_eq!((dressed.header("x-a"), dressed.header("etag")), (Some("1"), None));
}

#[test]
fn endless_heads_and_bodies_do_not_end() {
    for fault in [Fault::EndlessHead, Fault::EndlessBody] {
        let server = Server::start();
        server.route("/k", Route::new(bytes()).fault(fault));
        let mut stream = TcpStream::connect(server.host()).expect("a connection");
        stream.write_all(b"GET /k HTTP/1.1\r\n\r\n").expect("open");
        let (wire, _) = read_all(&mut stream, 8 << 20);
        assert!(wire.len() >= 8 << 20);
        let head = String::from_utf8_lossy(&wire[..200]).to_ascii_lowercase();
        assert!(!head.contains("content-length"), "{head}");
    }
}

#[test]
fn lengths_lie() {
    for value in ["199999", "200001", "abc", "-1", ""] {
        let reply = reply([Fault::ContentLength(value.into())]);
        assert_eq!(reply.all("content-length"), [value]);
        assert_eq!((reply.body.len(), reply.end), (LENGTH, End::Closed));
    }
    let repeated = reply([Fault::RepeatContentLength("5".into())]);
    assert_eq!(repeated.all("content-length"), ["200000", "5"]);
    let absent = reply([Fault::NoContentLength]);
    assert_eq!((absent.header("content-length"), absent.body.len()), (None, LENGTH));
    let extra = reply([Fault::ExtraBytes(70_000)]);
    assert_eq!(extra.header("content-length"), Some("200000"));
    assert_eq!(extra.body.len(), LENGTH + 70_000);
    assert_eq!(extra.body[..LENGTH], bytes());
}

#[test]
fn chunks_end_with_the_last_one_unless_cut() {
    let whole = reply([Fault::Chunked]);
    assert_eq!(whole.header("transfer-encoding"), Some("chunked"));
    assert_eq!(whole.header("content-length"), None);
    assert_eq!(dechunk(&whole.body), (bytes(), true));
    for at in [1000, LENGTH] {
        let cut = reply([Fault::Chunked, Fault::CutAt(at as u64)]);
        assert_eq!(dechunk(&cut.body), (bytes()[..at].to_vec(), false));
    }
}

#[test]
fn ranges_are_misunderstood() {
    let range = ["Range: bytes=1000-1999", "If-Range: \"v1\""];
    let ignored = reply_to(&range, [Fault::IgnoreRange]);
    assert_eq!((ignored.status(), ignored.body.len()), (200, LENGTH));
    let wrong = reply_to(&range, [Fault::WrongRange]);
    assert_eq!(wrong.status(), 206);
    assert_eq!(wrong.header("content-range"), Some("bytes 1001-2000/200000"));
    assert_eq!(wrong.body, bytes()[1001..2001]);
    let at_the_end = reply_to(&["Range: bytes=199999-"], [Fault::WrongRange]);
    assert_eq!(at_the_end.body, bytes()[LENGTH - 2..]);
    let mislabelled = reply_to(&range, [Fault::ContentRange("bytes 0-999/5".into())]);
    assert_eq!(mislabelled.header("content-range"), Some("bytes 0-999/5"));
    assert_eq!(mislabelled.body, bytes()[1000..2000]);
    let refused = reply_to(&range, [Fault::RangeNotSatisfiable]);
    assert_eq!(refused.status(), 416);
    assert_eq!(refused.header("content-range"), Some("bytes */200000"));
    assert_eq!(reply([Fault::RangeNotSatisfiable]).status(), 200);
}

#[test]
fn another_version_takes_the_place() {
    let range = ["Range: bytes=100-", "If-Range: \"v1\""];
    let new = content::noise(2, 5000);
    let replaced = Fault::replaced("\"v2\"", new.clone());
    let honest = reply_to(&range, [replaced.clone()]);
    assert_eq!((honest.status(), honest.header("etag")), (200, Some("\"v2\"")));
    assert_eq!(honest.body, new);
    let mixed = reply_to(&range, [replaced, Fault::IgnoreIfRange]);
    assert_eq!((mixed.status(), mixed.header("etag")), (206, Some("\"v2\"")));
    assert_eq!(mixed.body, new[100..]);
}

#[test]
fn content_is_encoded_damaged_or_replaced() {
    let gzipped = reply([Fault::Gzip]);
    assert_eq!(gzipped.header("content-encoding"), Some("gzip"));
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(&*gzipped.body).read_to_end(&mut plain).expect("gzip");
    assert_eq!(plain, bytes());

    for (headers, start) in [(&[][..], 0), (&["Range: bytes=777-"][..], 777)] {
        let flipped = reply_to(headers, [Fault::FlipByteAt(777)]);
        let mut expected = bytes();
        expected[777] ^= 1;
        assert_eq!(flipped.body, expected[start..]);
    }

    let page = reply([Fault::ErrorPage]);
    assert_eq!((page.status(), page.header("content-type")), (200, Some("text/html")));
    assert!(page.body.starts_with(b"<!DOCTYPE html>"));
    let page = reply([Fault::ErrorPage, Fault::Status(403)]);
    assert_eq!(page.status(), 403);
    assert!(page.body.starts_with(b"<!DOCTYPE html>"));
}

#[test]
fn statuses_and_redirects_replace_the_answer() {
    assert_eq!(reply([Fault::Status(404)]).status(), 404);
    let later = reply([Fault::RetryAfter { status: 503, value: "7".into() }]);
    assert_eq!((later.status(), later.header("retry-after")), (503, Some("7")));
    let moved = reply([Fault::RedirectTo("file:///etc/passwd".into())]);
    assert_eq!((moved.status(), moved.header("location")), (302, Some("file:///etc/passwd")));
    let moved = reply([Fault::RedirectTo("/n".into()), Fault::Status(308)]);
    assert_eq!((moved.status(), moved.header("location")), (308, Some("/n")));

    let server = Server::start();
    server.route("/loop", Route::new(Vec::new()).fault(Fault::RedirectLoop));
    let first = get(&server.host(), "/loop", &[]);
    assert_eq!(first.header("location"), Some("/loop?hop=1"));
    let next = get(&server.host(), "/loop?hop=1", &[]);
    assert_eq!(next.header("location"), Some("/loop?hop=2"));
}

#[test]
fn faults_befall_the_requests_they_are_for() {
    let server = Server::start();
    let route = || {
        Route::new(vec![0; 10])
            .fault_until(2, Fault::Status(503))
            .fault_on(3, Fault::CutAt(4))
            .fault_from(5, Fault::Status(410))
    };
    server.route("/k", route());
    let ask = || {
        let reply = get(&server.host(), "/k", &[]);
        (reply.status(), reply.body.len())
    };
    let seen: Vec<_> = (0..7).map(|_| ask()).collect();
    assert_eq!(seen[0].0, 503);
    assert_eq!(seen[1].0, 503);
    assert_eq!(seen[2..5], [(200, 10), (200, 4), (200, 10)]);
    assert_eq!((seen[5].0, seen[6].0), (410, 410));
    server.route("/k", route());
    assert_eq!(ask().0, 503, "a route that is put there again counts from 0");
}
