//! HTTPS with an authority of the test's own: trusted by those who were told, by nobody else.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use smolvm_testkit::{Authority, Fault, Nginx, Route, Server, content, require_nginx};

/// What a client that trusts the authority in `ca` alone reads, and how that ended.
fn get(ca: &Path, host: &str, name: &'static str) -> (Vec<u8>, Option<ErrorKind>) {
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_file(ca).expect("a certificate");
    roots.add(certificate).expect("an authority");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring knows them")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(name).expect("a name");
    let session = ClientConnection::new(Arc::new(config), name).expect("a session");
    let mut stream = StreamOwned::new(session, TcpStream::connect(host).expect("a connection"));
    let mut wire = Vec::new();
    let result = stream
        .write_all(b"GET /k HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .and_then(|()| stream.read_to_end(&mut wire));
    (wire, result.err().map(|error| error.kind()))
}

#[test]
fn a_body_arrives_for_those_who_trust_the_authority() {
    let authority = Authority::new();
    let server = Server::start_tls(&authority);
    let bytes = content::noise(1, 1_000_000);
    server.route("/k", Route::new(bytes.clone()));
    assert!(server.url("/k").starts_with("https://127.0.0.1:"));
    for name in ["localhost", "127.0.0.1"] {
        let (wire, error) = get(&authority.ca_pem_path(), &server.host(), name);
        assert_eq!(error, None);
        assert!(wire.ends_with(&bytes));
    }
    let stranger = Authority::new();
    let (wire, error) = get(&stranger.ca_pem_path(), &server.host(), "localhost");
    assert_eq!((wire.len(), error), (0, Some(ErrorKind::InvalidData)));
    let (_, error) = get(&authority.ca_pem_path(), &server.host(), "other.test");
    assert_eq!(error, Some(ErrorKind::InvalidData));
}

#[test]
fn faults_hold_under_tls() {
    let authority = Authority::new();
    let server = Server::start_tls(&authority);
    let ca = authority.ca_pem_path();
    server.route("/k", Route::new(vec![1; 5000]).fault(Fault::CutAt(1000)));
    let (wire, error) = get(&ca, &server.host(), "localhost");
    assert_eq!(error, None, "an orderly close");
    assert!(wire.ends_with(&[1; 1000]) && !wire.ends_with(&[1; 1001]));
    server.route("/k", Route::new(vec![1; 5000]).fault(Fault::ResetAt(1000)));
    let (wire, error) = get(&ca, &server.host(), "localhost");
    assert_eq!(error, Some(ErrorKind::ConnectionReset));
    assert!(wire.ends_with(&[1; 1000]) && !wire.ends_with(&[1; 1001]));
}

#[test]
fn nginx_speaks_tls_too() {
    if !require_nginx() {
        return;
    }
    let root = tempfile::tempdir().expect("a directory");
    fs_err::write(root.path().join("k"), b"over TLS").expect("a file");
    let authority = Authority::new();
    let nginx = Nginx::builder(root.path()).tls(&authority).start();
    let (wire, error) = get(&authority.ca_pem_path(), &nginx.host(), "127.0.0.1");
    assert_eq!(error, None);
    assert!(wire.ends_with(b"over TLS"));
}
