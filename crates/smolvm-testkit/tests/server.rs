//! The fault server without faults: what RFC 9110 asks, and the account of it.

mod wire;

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::Arc;

use smolvm_testkit::{Route, Server, content};
use wire::{End, get, read_all, send, split};

const DATE: &str = "Wed, 21 Oct 2015 07:28:00 GMT";

fn server_with(route: Route) -> Server {
    let server = Server::start();
    server.route("/kernel", route);
    server
}

#[test]
fn a_whole_body_arrives_with_its_headers() {
    let bytes = content::noise(1, 300_000);
    let server = server_with(Route::new(bytes.clone()).etag("\"v1\"").last_modified(DATE));
    let reply = get(&server.host(), "/kernel?token=1", &[]);
    assert_eq!(reply.status(), 200);
    assert_eq!(reply.end, End::Closed);
    assert_eq!(reply.header("etag"), Some("\"v1\""));
    assert_eq!(reply.header("last-modified"), Some(DATE));
    assert_eq!(reply.header("content-length"), Some("300000"));
    assert_eq!(reply.body, bytes);
    assert_eq!(get(&server.host(), "/other", &[]).status(), 404);
}

#[test]
fn a_range_gets_its_part() {
    let bytes = content::noise(2, 1000);
    let server = server_with(Route::new(bytes.clone()).etag("\"v1\"").last_modified(DATE));
    for (condition, status) in [
        ("If-Range: \"v1\"", 206),
        (&*format!("If-Range: {DATE}"), 206),
        ("If-Range: \"v2\"", 200),
        ("If-Range: Thu, 22 Oct 2015 07:28:00 GMT", 200),
        ("X-None: 1", 206),
    ] {
        let reply = get(&server.host(), "/kernel", &["Range: bytes=400-", condition]);
        assert_eq!(reply.status(), status, "{condition}");
        let start = if status == 206 { 400 } else { 0 };
        assert_eq!(reply.body, bytes[start..], "{condition}");
    }
    let reply = get(&server.host(), "/kernel", &["Range: bytes=10-19"]);
    assert_eq!(reply.header("content-range"), Some("bytes 10-19/1000"));
    assert_eq!(reply.body, bytes[10..20]);
    let reply = get(&server.host(), "/kernel", &["Range: bytes=1000-"]);
    assert_eq!(reply.status(), 416);
    assert_eq!(reply.header("content-range"), Some("bytes */1000"));
}

#[test]
fn a_condition_that_holds_gets_304() {
    let server = server_with(Route::new(vec![1; 9]).etag("\"v1\"").last_modified(DATE));
    for (condition, status) in [
        ("If-None-Match: \"v1\"".to_owned(), 304),
        ("If-None-Match: \"v0\", W/\"v1\"".to_owned(), 304),
        ("If-None-Match: \"v2\"".to_owned(), 200),
        (format!("If-Modified-Since: {DATE}"), 304),
        ("If-Modified-Since: Tue, 20 Oct 2015 07:28:00 GMT".to_owned(), 200),
    ] {
        let reply = get(&server.host(), "/kernel", &[&condition]);
        assert_eq!(reply.status(), status, "{condition}");
        assert_eq!(reply.body.is_empty(), status == 304, "{condition}");
    }
}

#[test]
fn head_is_refused_unless_allowed() {
    let server = server_with(Route::new(vec![1; 9]));
    assert_eq!(send(&server.host(), "HEAD", "/kernel", &[]).status(), 405);
    assert_eq!(server.requests()[0].method, "HEAD");
    server.route("/kernel", Route::new(vec![1; 9]).allow_head());
    let reply = send(&server.host(), "HEAD", "/kernel", &[]);
    assert_eq!((reply.status(), reply.body.len()), (200, 0));
    assert_eq!(reply.header("content-length"), Some("9"));
}

#[test]
fn a_secret_is_asked_for() {
    let server = server_with(Route::new(vec![1; 9]).require_authorization("Bearer abc"));
    assert_eq!(get(&server.host(), "/kernel", &[]).status(), 401);
    let reply = get(&server.host(), "/kernel", &["Authorization: Bearer abc"]);
    assert_eq!(reply.status(), 200);
}

#[test]
fn a_connection_serves_several_requests() {
    let server = server_with(Route::new(b"abc".to_vec()));
    let mut stream = TcpStream::connect(server.host()).expect("a connection");
    for _ in 0..3 {
        stream.write_all(b"GET /kernel HTTP/1.1\r\n\r\n").expect("open");
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"abc") {
            bytes.extend(read_all(&mut stream, 1).0);
        }
        assert_eq!(split(&bytes, End::Silent).status(), 200);
    }
    assert_eq!(server.hits("/kernel"), 3);
}

#[test]
fn requests_and_bytes_are_accounted() {
    let server = server_with(Route::new(vec![7; 1000]));
    get(&server.host(), "/kernel?x=1", &["Range: bytes=900-", "X-Test: Yes"]);
    get(&server.host(), "/other", &[]);
    let requests = server.requests();
    assert_eq!(requests[0].target, "/kernel?x=1");
    assert_eq!(requests[0].path(), "/kernel");
    assert_eq!(requests[0].header("x-test"), Some("Yes"));
    assert_eq!((requests[0].status, requests[0].body_bytes), (206, 100));
    assert_eq!(requests[1].status, 404);
    assert_eq!(server.bytes_sent_for("/kernel"), 100);
    assert_eq!(server.bytes_sent(), 100 + requests[1].body_bytes);
    assert_eq!((server.hits("/kernel"), server.hits("/none")), (1, 0));
}

#[test]
fn a_big_body_is_shared_not_copied() {
    let bytes: Arc<[u8]> = content::noise(3, 64 << 20).into();
    let server = server_with(Route::new(Arc::clone(&bytes)));
    let reply = get(&server.host(), "/kernel", &[]);
    assert!(reply.body[..] == bytes[..]);
    assert_eq!(server.bytes_sent(), 64 << 20);
}
