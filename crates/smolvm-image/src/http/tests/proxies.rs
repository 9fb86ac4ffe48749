//! The way through proxies.

use std::io::Write;

use smolvm_testkit::{Authority, Proxy, Route, Server};

use super::super::proxy::ProxyError;
use super::peer::{Peer, accept_tls, read_request};
use super::*;

fn serve(server: &Server) {
    server.route("/x", Route::new(b"image".to_vec()));
}

/// Behaviour 23: a proxy is asked for an http URL in the absolute form, not for a tunnel.
#[test]
fn an_http_url_is_asked_for_as_a_whole() {
    let server = Server::start();
    serve(&server);
    let proxy = Proxy::builder().upstream(server.address()).start();
    let client = client_via(Some(&proxy.url()), None);
    assert_eq!(download(&client, "http://me:pw@image.test/x?q").unwrap(), b"image");
    let asked = &proxy.requests()[0];
    assert_eq!((&*asked.method, &*asked.target), ("GET", "http://image.test/x?q"));
    let seen = &server.requests()[0];
    assert_eq!(seen.header("Host"), Some("image.test"));
    assert_eq!(seen.header("Authorization"), Some("Basic bWU6cHc="));
}

/// Behaviour 23: an https URL goes through a tunnel, and the certificate is the server's.
#[test]
fn an_https_url_goes_through_a_tunnel() {
    let authority = Authority::new();
    let server = Server::start_tls(&authority);
    serve(&server);
    let proxy = Proxy::builder().credentials("me", "p@ss").upstream(server.address()).start();
    let url = format!("http://me:p%40ss@{}", proxy.host());
    let client = client_via(Some(&url), Some(authority.ca_pem_path()));
    assert_eq!(download(&client, "https://localhost/x").unwrap(), b"image");
    let asked = &proxy.requests()[0];
    assert_eq!((&*asked.method, &*asked.target), ("CONNECT", "localhost:443"));
    assert_eq!(server.requests()[0].header("Proxy-Authorization"), None);

    let error = get(&client, "https://image.test/x").unwrap_err();
    assert!(error.to_string().contains("the certificate of image.test is refused"), "{error}");
}

/// Behaviour 23: `NO_PROXY` is honoured.
#[test]
fn an_exempt_host_is_asked_directly() {
    let server = Server::start();
    serve(&server);
    let proxy = Proxy::start();
    let proxies = Proxies::from_vars(|name| match name {
        "http_proxy" => Some(proxy.url()),
        "NO_PROXY" => Some("example.com, 127.0.0.0/8".to_owned()),
        _ => None,
    });
    let client = Client::new(ClientConfig { proxies, ..ClientConfig::default() });
    assert_eq!(download(&client, &server.url("/x")).unwrap(), b"image");
    assert!(proxy.requests().is_empty());
}

#[test]
fn a_proxy_that_wants_a_password_is_named() {
    let proxy = Proxy::builder().credentials("me", "right").start();
    let client = client_via(Some(&proxy.url_with_credentials("me", "wrong")), None);
    for url in ["http://image.test/x", "https://image.test/x"] {
        let error = get(&client, url).unwrap_err();
        assert!(matches!(error, HttpError::Proxy(ProxyError::Refused { status: 407, .. })));
        let text = error.to_string();
        assert!(text.contains(&proxy.url()) && text.contains("user:password"), "{text}");
        assert!(!text.contains("wrong") && !error.is_retryable(), "{text}");
    }
}

#[test]
fn a_proxy_that_finds_no_way_is_named() {
    for (status, is_retryable) in [(502, true), (503, true), (403, false), (404, false)] {
        let peer = Peer::answering(format!("HTTP/1.1 {status} x\r\n\r\n"));
        let error = get(&client_via(Some(&peer.url()), None), "https://h:8443/").unwrap_err();
        let expected =
            ProxyError::Refused { proxy: peer.url(), target: "h:8443".to_owned(), status };
        assert!(matches!(&error, HttpError::Proxy(found) if *found == expected), "{error:?}");
        assert_eq!(error.is_retryable(), is_retryable);
    }
}

/// Behaviour 23: the proxy itself may be spoken to in TLS, in which the server's TLS then is.
#[test]
fn a_proxy_may_be_secure() {
    let authority = Authority::new();
    let ca = authority.ca_pem_path();
    let (plain, tunnelling) = (authority, Authority::new());

    let forwarder = Peer::start(move |socket| {
        let mut stream = accept_tls(&plain, socket);
        let request = read_request(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nimage").unwrap();
        (request, plain)
    });
    let client = client_via(Some(&format!("https://{}", forwarder.address)), Some(ca));
    assert_eq!(download(&client, "http://image.test/x").unwrap(), b"image");
    let (request, _authority) = forwarder.join();
    assert!(request.starts_with("GET http://image.test/x HTTP/1.1\r\n"), "{request}");

    let ca = tunnelling.ca_pem_path();
    let tunneller = Peer::start(move |socket| {
        let mut outer = accept_tls(&tunnelling, socket);
        let request = read_request(&mut outer);
        outer.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        let mut inner = accept_tls(&tunnelling, outer);
        let inner_request = read_request(&mut inner);
        inner.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nimage").unwrap();
        (request + &inner_request, tunnelling)
    });
    let client = client_via(Some(&format!("https://{}", tunneller.address)), Some(ca));
    assert_eq!(download(&client, "https://localhost/x").unwrap(), b"image");
    let (requests, _authority) = tunneller.join();
    assert!(requests.starts_with("CONNECT localhost:443 HTTP/1.1\r\n"), "{requests}");
    assert!(requests.contains("GET /x HTTP/1.1\r\nHost: localhost\r\n"), "{requests}");
}

#[test]
fn an_unsupported_proxy_is_an_error() {
    let error = get(&client_via(Some("socks5://127.0.0.1:1"), None), "http://h/").unwrap_err();
    assert!(matches!(error, HttpError::Proxy(ProxyError::Scheme { .. })), "{error:?}");
    assert!(!error.is_retryable());
}
