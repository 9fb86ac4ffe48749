//! Where the client lets itself be sent.

use smolvm_testkit::{Authority, Fault, Route, Server};

use super::super::redirect::RedirectError;
use super::*;

fn redirect(to: &str) -> Route {
    Route::new(Vec::new()).fault(Fault::RedirectTo(to.to_owned()))
}

/// Behaviours 17 and 27: redirects are followed with the same range, and nothing but GET is used.
#[test]
fn a_redirect_is_followed_with_the_callers_headers() {
    let server = Server::start();
    server.route("/a", redirect("b?x=y").fault(Fault::Status(307)));
    server.route("/b", redirect("/c"));
    server.route("/c", Route::new(b"0123456789".to_vec()).etag("\"v\""));
    let headers = [("Range", "bytes=4-".to_owned()), ("If-Range", "\"v\"".to_owned())];
    let url = server.url("/a").parse().unwrap();
    let mut response = client().get(&url, &headers, None, &CancelToken::new()).unwrap();
    assert_eq!((response.status, response.url.path()), (206, "/c"));
    assert_eq!(read_all(&mut response).unwrap(), b"456789");
    let asked = server.requests();
    assert_eq!(asked.len(), 3);
    assert!(asked.iter().all(|r| r.method == "GET" && r.header("Range") == Some("bytes=4-")));
}

/// Behaviour 17: credentials and `Authorization` are not sent on to another host.
#[test]
fn another_server_gets_no_credentials() {
    let (first, other) = (Server::start(), Server::start());
    other.route("/x", Route::new(b"there".to_vec()));
    first.route("/own", redirect("/x"));
    first.route("/x", redirect(&other.url("/x")));
    let (with_user, bare) = (first.url("/own").replace("://", "://u:p@"), first.url("/own"));
    let given = [("Authorization", "Bearer z".to_owned()), ("Cookie", "c".to_owned())];
    for (url, headers, expected) in
        [(with_user, &given[..0], "Basic dTpw"), (bare, &given[..], "Bearer z")]
    {
        let url = url.parse().unwrap();
        let mut response = client().get(&url, headers, None, &CancelToken::new()).unwrap();
        assert_eq!(read_all(&mut response).unwrap(), b"there");
        assert_eq!(response.url.username(), "");
        let here = first.requests();
        assert!(here[here.len() - 2..].iter().all(|r| r.header("Authorization") == Some(expected)));
    }
    for request in other.requests() {
        assert_eq!((request.header("Authorization"), request.header("Cookie")), (None, None));
    }
}

/// Behaviour 17: followed to a bound.
#[test]
fn a_loop_ends() {
    let server = Server::start();
    server.route("/x", Route::new(Vec::new()).fault(Fault::RedirectLoop));
    let error = get(&client(), &server.url("/x")).unwrap_err();
    let HttpError::Redirect(RedirectError::TooMany { first }) = &error else { panic!("{error:?}") };
    assert_eq!(first, &server.url("/x"));
    assert_eq!(server.requests().len(), 11);
    assert!(!error.is_retryable());
}

/// Behaviour 17: never from https to http, never to `file:`.
#[test]
fn a_redirect_to_something_less_is_refused() {
    let authority = Authority::new();
    let (secure, plain) = (Server::start_tls(&authority), Server::start());
    secure.route("/down", redirect(&plain.url("/x")));
    secure.route("/file", redirect("file:///etc/passwd"));
    plain.route("/up", redirect(&secure.url("/x")));
    plain.route("/x", Route::new(b"plain".to_vec()));
    secure.route("/x", Route::new(b"secure".to_vec()));
    let client = client_via(None, Some(authority.ca_pem_path()));
    assert_eq!(download(&client, &plain.url("/up")).unwrap(), b"secure");
    for path in ["/down", "/file"] {
        let error = get(&client, &secure.url(path)).unwrap_err();
        assert!(matches!(error, HttpError::Redirect(_)) && !error.is_retryable(), "{error:?}");
    }
    assert_eq!(plain.hits("/x"), 0);
}

#[test]
fn a_redirect_to_nowhere_is_the_answer() {
    let server = Server::start();
    server.route("/x", Route::new(Vec::new()).fault(Fault::Status(302)));
    assert_eq!(get(&client(), &server.url("/x")).unwrap().status, 302);
}

#[test]
fn other_schemes_are_refused_without_a_request() {
    for url in ["file:///etc/passwd", "ftp://h/x", "data:,x"] {
        let error = get(&client(), url).unwrap_err();
        assert!(matches!(error, HttpError::Unsupported { .. }), "{error:?}");
    }
}
