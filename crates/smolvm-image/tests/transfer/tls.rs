//! Secure connections: whose certificates are trusted, and what is said of the others.

use std::io::{Read as _, Write as _};

use smolvm_image::{ErrorKind, ImageError};
use smolvm_testkit::content::sha256_hex;
use smolvm_testkit::{Authority, Fault, Route, Server};

use crate::bytes::{Bytes, noise};
use crate::scene::{Scene, failure};

fn kernel() -> Bytes {
    noise(90, 100_000)
}

fn fetch(url: &str, pin: Option<&str>, ca_file: &std::path::Path) -> Result<Bytes, ImageError> {
    let scene = Scene::new();
    let manager = scene.builder(url, pin).ca_file(ca_file).build().unwrap();
    scene.ensure(&manager)
}

/// Behaviour 23: a server whose certificate is signed by the extra authority is trusted, by name
/// and by address.
#[test]
fn an_extra_authority_is_trusted() {
    let authority = Authority::new();
    let server = Server::start_tls(&authority);
    server.route("/kernel", Route::new(kernel()));
    let by_address = server.url("/kernel");
    let by_name = by_address.replace("127.0.0.1", "localhost");
    for url in [by_address, by_name] {
        assert_eq!(fetch(&url, None, &authority.ca_pem_path()).unwrap(), kernel(), "{url}");
    }
}

/// Behaviour 23: a certificate of an unknown authority, or for another name, is a clear error and
/// not tried again, whatever the pin says.
#[test]
fn an_untrusted_certificate_is_refused_at_once() {
    let (authority, other) = (Authority::new(), Authority::new());
    let server = Server::start_tls(&authority);
    server.route("/kernel", Route::new(kernel()));
    let url = server.url("/kernel");
    let error = fetch(&url, Some(&sha256_hex(&kernel())), &other.ca_pem_path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network);
    let message = error.to_string();
    assert!(message.contains(&url) && message.contains("certificate of 127.0.0.1"), "{message}");
    assert!(message.contains("SMOLVM_CA_FILE"), "what to do: {message}");
    assert_eq!(failure(Err(error)).0, 1);

    let other_name = url.replace("127.0.0.1", "127.0.0.2");
    let (attempts, error) = failure(fetch(&other_name, None, &authority.ca_pem_path()));
    // The server listens on another address, so this is a refused connection, not a name.
    assert!(attempts > 1, "{error}");
    assert!(server.requests().is_empty());
}

/// Behaviour 23: a CA file that is missing or has no certificate in it is named.
#[test]
fn a_ca_file_that_cannot_be_used_is_named() {
    let authority = Authority::new();
    let server = Server::start_tls(&authority);
    let temp = tempfile::tempdir().unwrap();
    let (missing, empty) = (temp.path().join("missing.pem"), temp.path().join("empty.pem"));
    fs_err::write(&empty, "no certificate").unwrap();
    for file in [missing, empty] {
        let (attempts, error) = failure(fetch(&server.url("/kernel"), None, &file));
        assert!(error.to_string().contains(file.to_str().unwrap()), "{error}");
        assert_eq!(attempts, 1);
    }
    assert!(server.requests().is_empty());
}

/// Behaviours 12 and 23: a secure connection that breaks is resumed like any other, and one that
/// is cut without a good-bye is no end of a body.
#[test]
fn a_broken_secure_connection_is_resumed() {
    let authority = Authority::new();
    for framing in [Fault::Interim(103), Fault::Chunked] {
        for cut in [Fault::CutAt(40_000), Fault::ResetAt(40_000)] {
            let server = Server::start_tls(&authority);
            let route = Route::new(kernel()).etag("\"v1\"").fault(framing.clone());
            server.route("/kernel", route.fault_on(0, cut.clone()));
            let fetched = fetch(&server.url("/kernel"), None, &authority.ca_pem_path());
            assert_eq!(fetched.unwrap(), kernel(), "{framing:?} {cut:?}");
            assert_eq!(server.requests()[1].header("Range"), Some("bytes=40000-"));
        }
    }
}

/// Behaviour 23: a server that does not speak TLS is a clear error.
#[test]
fn a_server_without_tls_is_named() {
    let authority = Authority::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/kernel", listener.local_addr().unwrap());
    let plain = std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        client.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").unwrap();
        let _ = client.read_to_end(&mut Vec::new());
    });
    let (attempts, error) = failure(fetch(&url, None, &authority.ca_pem_path()));
    assert!(error.to_string().contains("no secure connection to 127.0.0.1"), "{error}");
    assert_eq!(attempts, 1);
    plain.join().unwrap();
}
