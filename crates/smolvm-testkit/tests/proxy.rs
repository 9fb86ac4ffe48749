//! The proxy passes requests on, tunnels, asks for credentials, and can be stale.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

mod wire;

use std::io::Write as _;
use std::net::TcpStream;

use smolvm_testkit::{Fault, Proxy, Route, Server};
use wire::{End, get, read_all, split};

fn origin() -> Server {
    let server = Server::start();
    server.route("/k", Route::new(b"fresh".to_vec()).etag("\"v1\""));
    server
}

#[test]
fn a_request_is_passed_on_and_recorded() {
    let origin = origin();
    let proxy = Proxy::builder().response_header("Age", "10").start();
    let reply =
        get(&proxy.host(), &origin.url("/k?q"), &["Range: bytes=1-", "Proxy-Connection: x"]);
    assert_eq!((reply.status(), &reply.body[..]), (206, &b"resh"[..]));
    assert_eq!(reply.header("age"), Some("10"));
    assert_eq!(reply.header("etag"), Some("\"v1\""));
    let asked = &proxy.requests()[0];
    assert_eq!((&*asked.method, &asked.target), ("GET", &origin.url("/k?q")));
    assert_eq!((asked.status, asked.body_bytes), (206, 4));
    let seen = &origin.requests()[0];
    assert_eq!(seen.target, "/k?q");
    assert_eq!(seen.header("proxy-connection"), None);
}

#[test]
fn names_need_not_exist() {
    let origin = origin();
    let proxy = Proxy::builder().upstream(origin.address()).start();
    let reply = get(&proxy.host(), "http://images.test/k", &[]);
    assert_eq!(reply.body, b"fresh");
}

#[test]
fn credentials_are_asked_for() {
    let origin = origin();
    let proxy = Proxy::builder().credentials("me", "secret").start();
    let refused = get(&proxy.host(), &origin.url("/k"), &[]);
    assert_eq!(refused.status(), 407);
    assert_eq!(refused.header("proxy-authenticate"), Some("Basic realm=\"test\""));
    let credentials = "Proxy-Authorization: Basic bWU6c2VjcmV0";
    assert_eq!(get(&proxy.host(), &origin.url("/k"), &[credentials]).body, b"fresh");
    assert_eq!(origin.requests()[0].header("proxy-authorization"), None);
    assert!(proxy.url_with_credentials("me", "secret").starts_with("http://me:secret@127."));
}

#[test]
fn connect_tunnels_to_the_end() {
    let origin = origin();
    let proxy = Proxy::start();
    let mut stream = TcpStream::connect(proxy.host()).expect("a connection");
    write!(stream, "CONNECT {} HTTP/1.1\r\n\r\n", origin.host()).expect("open");
    let (mut wire, _) = read_all(&mut stream, 1);
    assert!(wire.starts_with(b"HTTP/1.1 200 "));
    wire.clear();
    stream.write_all(b"GET /k HTTP/1.1\r\nConnection: close\r\n\r\n").expect("open");
    let (bytes, end) = read_all(&mut stream, usize::MAX);
    let reply = split(&bytes, end);
    assert_eq!((&reply.body[..], reply.end), (&b"fresh"[..], End::Closed));
    assert_eq!(proxy.requests()[0].target, origin.host());
    assert_eq!(proxy.requests()[0].method, "CONNECT");
}

#[test]
fn a_stale_cache_gives_way_to_no_cache() {
    let origin = origin();
    let proxy =
        Proxy::builder().stale_body(b"stale".to_vec()).response_header("Age", "86400").start();
    let stale = get(&proxy.host(), &origin.url("/k"), &[]);
    assert_eq!((&stale.body[..], stale.header("age")), (&b"stale"[..], Some("86400")));
    assert_eq!(origin.hits("/k"), 0);
    let fresh = get(&proxy.host(), &origin.url("/k"), &["Cache-Control: no-cache"]);
    assert_eq!(fresh.body, b"fresh");
}

#[test]
fn what_cannot_be_reached_is_502_and_what_is_no_url_400() {
    let proxy = Proxy::start();
    let gone = origin().url("/k");
    assert_eq!(get(&proxy.host(), &gone, &[]).status(), 502);
    assert_eq!(get(&proxy.host(), "/k", &[]).status(), 400);
}

#[test]
fn dropping_the_proxy_ends_what_it_waits_for() {
    let origin = Server::start();
    origin.route("/k", Route::new(vec![0; 9]).fault(Fault::stall_at(1)));
    let proxy = Proxy::start();
    let mut stream = TcpStream::connect(proxy.host()).expect("a connection");
    write!(stream, "GET {} HTTP/1.1\r\n\r\n", origin.url("/k")).expect("open");
    origin.wait_for_hits("/k", 1);
    drop(proxy);
    assert_ne!(read_all(&mut stream, usize::MAX).1, End::Silent);
}
