//! Everything that waits ends when cancelled. Nothing else would end these waits: a client that
//! does not look at the flag hangs.

use std::net::TcpListener;
use std::thread;

use smolvm_testkit::{Authority, Fault, Gate, Route, Server};

use super::*;

/// Cancels a download after `is_waiting` returned.
fn cancelled_while(client: Client, url: String, is_waiting: impl FnOnce()) -> HttpError {
    let cancel = CancelToken::new();
    let flag = cancel.clone();
    let download = thread::spawn(move || {
        client.get(&url.parse().unwrap(), &[], None, &flag).and_then(|mut r| read_all(&mut r))
    });
    is_waiting();
    cancel.cancel();
    download.join().unwrap().unwrap_err()
}

#[test]
fn waiting_for_a_body_ends() {
    for framing in [None, Some(Fault::Chunked), Some(Fault::NoContentLength)] {
        let (server, gate) = (Server::start(), Gate::new());
        let route = Route::new(vec![0; 10_000]).fault(Fault::HoldAt(5000, gate.clone()));
        server.route("/x", framing.into_iter().fold(route, Route::fault));
        let waiting = || gate.wait_for_arrivals(1);
        assert!(matches!(
            cancelled_while(client(), server.url("/x"), waiting),
            HttpError::Cancelled
        ));
    }
}

#[test]
fn waiting_for_a_head_ends() {
    let server = Server::start();
    server.route("/x", Route::new(Vec::new()).fault(Fault::SlowHead(FOREVER)));
    let waiting = || server.wait_for_hits("/x", 1);
    assert!(matches!(cancelled_while(client(), server.url("/x"), waiting), HttpError::Cancelled));
}

#[test]
fn waiting_for_a_handshake_or_a_tunnel_ends() {
    let authority = Authority::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    for (proxy, url) in [
        (None, format!("https://{address}/")),
        (Some(format!("http://{address}")), "https://h/".to_owned()),
        (Some(format!("https://{address}")), "http://h/".to_owned()),
    ] {
        let proxies = Proxies::from_vars(|name| proxy.clone().filter(|_| name == "all_proxy"));
        let client = Client::new(ClientConfig {
            stall: FOREVER,
            proxies,
            extra_ca_file: Some(authority.ca_pem_path()),
            ..ClientConfig::default()
        });
        let mut accepted = None;
        let waiting = || accepted = listener.accept().ok();
        assert!(matches!(cancelled_while(client, url, waiting), HttpError::Cancelled));
        assert!(accepted.is_some());
    }
}

#[test]
fn a_cancelled_token_ends_everything_at_once() {
    let server = Server::start();
    server.route("/x", Route::new(vec![0; 10_000_000]));
    let cancel = CancelToken::new();
    let url = server.url("/x").parse().unwrap();
    let mut response = client().get(&url, &[], None, &cancel).unwrap();
    cancel.cancel();
    assert!(matches!(read_all(&mut response).unwrap_err(), HttpError::Cancelled));
    assert!(matches!(client().get(&url, &[], None, &cancel).unwrap_err(), HttpError::Cancelled));
    assert_eq!(server.hits("/x"), 1);
}
