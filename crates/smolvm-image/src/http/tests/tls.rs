//! Whom the client trusts, and what it says when it does not.

use std::io::{Read, Write};

use smolvm_testkit::{Authority, Fault, Route, Server, content};

use super::super::tls::TlsError;
use super::peer::{Peer, accept_tls, read_request};
use super::*;

/// Behaviour 23: an extra CA file is honoured.
#[test]
fn a_private_authority_is_trusted_when_it_is_named() {
    let authority = Authority::new();
    let server = Server::start_tls(&authority);
    let bytes = content::noise(3, 300_000);
    server.route("/x", Route::new(bytes.clone()).fault_on(1, Fault::Chunked));
    let client = client_via(None, Some(authority.ca_pem_path()));
    assert_eq!(download(&client, &server.url("/x")).unwrap(), bytes);
    assert_eq!(download(&client, &server.url("/x")).unwrap(), bytes);

    let stranger = client_via(None, Some(Authority::new().ca_pem_path()));
    assert!(matches!(
        get(&stranger, &server.url("/x")).unwrap_err(),
        HttpError::Tls(TlsError::ReadCaFile { .. })
    ));
    let other = Authority::new();
    let stranger = client_via(None, Some(other.ca_pem_path()));
    let error = get(&stranger, &server.url("/x")).unwrap_err();
    assert!(matches!(error, HttpError::Tls(TlsError::Certificate { .. })), "{error:?}");
    assert!(error.to_string().contains("SMOLVM_CA_FILE") && !error.is_retryable(), "{error}");
    assert_eq!(server.hits("/x"), 2, "nothing is asked of a server that is not trusted");
}

#[test]
fn a_bad_ca_file_is_named_when_it_is_needed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ca.pem");
    let authority = Authority::new();
    let (secure, plain) = (Server::start_tls(&authority), Server::start());
    plain.route("/x", Route::new(b"plain".to_vec()));
    secure.route("/x", Route::new(b"secure".to_vec()));
    let client = client_via(None, Some(path.clone()));
    let begin = "-----BEGIN CERTIFICATE-----\n";
    let end = "-----END CERTIFICATE-----\n";
    for text in [
        None,
        Some(String::new()),
        Some("no PEM at all".to_owned()),
        Some(format!("{begin}AAAA\n")),
        Some(format!("{begin}!!!!\n{end}")),
        Some(format!("{begin}AAAA\n{end}")),
    ] {
        if let Some(text) = &text {
            fs_err::write(&path, text).unwrap();
        }
        let error = get(&client, &secure.url("/x")).unwrap_err();
        assert!(matches!(error, HttpError::Tls(_)) && !error.is_retryable(), "{error:?}");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{text:?}: {error}");
        assert_eq!(download(&client, &plain.url("/x")).unwrap(), b"plain");
    }
    fs_err::copy(authority.ca_pem_path(), &path).unwrap();
    assert_eq!(download(&client, &secure.url("/x")).unwrap(), b"secure", "put right meanwhile");
}

#[test]
fn a_server_that_does_not_speak_tls_is_named() {
    let peer = Peer::start(|mut stream| {
        stream.read_exact(&mut [0]).unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        // Closed before that, it would be a reset that drops the answer.
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let url = format!("https://{}/", peer.address);
    let authority = Authority::new();
    let error = get(&client_via(None, Some(authority.ca_pem_path())), &url).unwrap_err();
    assert!(matches!(error, HttpError::Tls(TlsError::Handshake { .. })), "{error:?}");
    assert!(!error.is_retryable());
}

/// Behaviour 15: an end that the server did not announce may be somebody's cut.
#[test]
fn a_connection_that_ends_without_a_goodbye_is_cut_off() {
    for (length, has_goodbye, is_whole) in [
        ("", true, true),
        ("", false, false),
        ("Content-Length: 5\r\n", false, true),
        ("Content-Length: 6\r\n", true, false),
        ("Content-Length: 6\r\n", false, false),
    ] {
        let authority = Authority::new();
        let ca = authority.ca_pem_path();
        let peer = Peer::start(move |socket| {
            let mut stream = accept_tls(&authority, socket);
            read_request(&mut stream);
            write!(stream, "HTTP/1.1 200 OK\r\n{length}\r\nimage").unwrap();
            if has_goodbye {
                stream.conn.send_close_notify();
            }
            stream.flush().unwrap();
            authority
        });
        let url = format!("https://{}/", peer.address);
        let result = download(&client_via(None, Some(ca)), &url);
        match result {
            Ok(bytes) => assert!(is_whole && bytes == b"image"),
            Err(error) => {
                assert!(!is_whole, "{length:?} {has_goodbye}: {error:?}");
                assert!(matches!(error, HttpError::ClosedEarly { received: 5, .. }), "{error:?}");
                assert!(error.is_retryable());
            }
        }
        peer.join();
    }
}

#[test]
fn a_silent_handshake_is_a_stall() {
    let authority = Authority::new();
    let extra_ca_file = Some(authority.ca_pem_path());
    let stall = Duration::from_millis(200);
    let client = Client::new(ClientConfig { stall, extra_ca_file, ..ClientConfig::default() });
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    let error = get(&client, &url).unwrap_err();
    assert!(matches!(error, HttpError::Stalled { .. }) && error.is_retryable(), "{error:?}");
}

#[test]
fn a_handshake_that_is_cut_off_may_be_retried() {
    let authority = Authority::new();
    let client = client_via(None, Some(authority.ca_pem_path()));
    let peer = Peer::start(drop);
    let url = format!("https://{}/", peer.address);
    let error = get(&client, &url).unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
}
