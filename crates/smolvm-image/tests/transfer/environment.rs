//! Proxies and credentials, which come from the environment.

use std::os::unix::fs::PermissionsExt as _;

use smolvm_testkit::content::sha256_hex;
use smolvm_testkit::{Authority, Fault, Proxy, Route, Server};

use crate::bytes::{Bytes, noise};
use crate::child::{Child, Outcome};

fn kernel() -> Bytes {
    noise(80, 100_000)
}

fn server() -> Server {
    let server = Server::start();
    server.route("/kernel", Route::new(kernel()).etag("\"v1\""));
    server
}

/// Behaviour 23: an http URL is asked for through `http_proxy` in the absolute form, by names
/// that only the proxy knows; a broken transfer goes on through it.
#[test]
fn http_goes_through_the_proxy_in_the_absolute_form() {
    let Some(child) = Child::of_this_test() else { return };
    let server = Server::start();
    let route = Route::new(kernel()).etag("\"v1\"").fault_on(0, Fault::CutAt(40_000));
    server.route("/kernel", route);
    for variable in ["http_proxy", "HTTP_PROXY", "all_proxy"] {
        let proxy = Proxy::builder().upstream(server.address()).start();
        let url = "http://images.test:8080/kernel?v=1";
        let outcome = child.var(variable, &proxy.url()).fetch(url, None);
        assert_eq!(outcome, Outcome::fetched(&kernel()), "{variable}");
        for asked in proxy.requests() {
            assert_eq!((&*asked.method, &*asked.target), ("GET", url));
            assert_eq!(asked.header("Host"), Some("images.test:8080"));
        }
    }
    let requests = server.requests();
    assert_eq!(requests.len(), 4);
    assert_eq!(requests[1].header("Range"), Some("bytes=40000-"));
}

/// Behaviour 23: an https URL is tunnelled through `https_proxy` with CONNECT, and the
/// certificate is that of the server.
#[test]
fn https_is_tunnelled_through_the_proxy() {
    let Some(child) = Child::of_this_test() else { return };
    let authority = Authority::new();
    let server = Server::start_tls(&authority);
    server.route("/kernel", Route::new(kernel()));
    let proxy = Proxy::start();
    let child = child.var("https_proxy", &proxy.url()).var("http_proxy", "http://127.0.0.1:9");
    let trusting = child.var("SMOLVM_CA_FILE", authority.ca_pem_path().to_str().unwrap());
    let outcome = trusting.fetch(&server.url("/kernel"), Some(&sha256_hex(&kernel())));
    assert_eq!(outcome, Outcome::fetched(&kernel()));
    let asked = proxy.requests();
    assert_eq!(asked.len(), 1);
    assert_eq!((&*asked[0].method, &*asked[0].target), ("CONNECT", &*server.host()));

    let message = child.fetch(&server.url("/kernel"), None).message();
    assert!(message.contains("certificate"), "{message}");
    assert_eq!(proxy.requests().len(), 2, "an untrusted certificate is not tried again");
}

/// Behaviour 23: what `NO_PROXY` lists is asked directly.
#[test]
fn what_no_proxy_lists_is_asked_directly() {
    let Some(child) = Child::of_this_test() else { return };
    let (server, proxy) = (server(), Proxy::start());
    let child = child.var("http_proxy", &proxy.url());
    for (variable, list, direct) in [
        ("no_proxy", "127.0.0.1", true),
        ("NO_PROXY", "example.com, 127.0.0.0/8", true),
        ("no_proxy", "*", true),
        ("no_proxy", "example.com,10.0.0.0/8", false),
        ("no_proxy", "", false),
    ] {
        let before = proxy.requests().len();
        let outcome = child.var(variable, list).fetch(&server.url("/kernel"), None);
        assert_eq!(outcome, Outcome::fetched(&kernel()), "{list}");
        assert_eq!(proxy.requests().len() == before, direct, "{list:?}");
    }
}

/// Behaviour 23: the proxy gets its credentials and nobody else does; without them the error says
/// where to put them.
#[test]
fn the_credentials_of_a_proxy_are_for_the_proxy() {
    let Some(child) = Child::of_this_test() else { return };
    let (server, proxy) = (server(), Proxy::builder().credentials("me", "hush-hush").start());
    let url = server.url("/kernel");
    let with = |url: &str| child.var("http_proxy", url);
    let outcome = with(&proxy.url_with_credentials("me", "hush-hush")).fetch(&url, None);
    assert_eq!(outcome, Outcome::fetched(&kernel()));
    assert!(proxy.requests()[0].header("Proxy-Authorization").is_some());
    for (name, _) in server.requests()[0].headers.iter() {
        assert!(!name.to_ascii_lowercase().contains("authorization"), "{name}");
    }

    for refused in [proxy.url(), proxy.url_with_credentials("me", "wrong-pass")] {
        let before = proxy.requests().len();
        let message = with(&refused).fetch(&url, None).message();
        assert!(message.contains("407") && message.contains(&proxy.host()), "{message}");
        assert!(message.contains("http://user:password@host:port"), "{message}");
        assert!(!message.contains("wrong-pass"), "{message}");
        assert_eq!(proxy.requests().len(), before + 1, "a refusal is not tried again");
    }
    assert_eq!(server.requests().len(), 1);
}

/// Behaviour 23: a proxy that is not there is named in the error, by its variable's value.
#[test]
fn a_proxy_that_is_not_there_is_named() {
    let Some(child) = Child::of_this_test() else { return };
    let server = server();
    let gone = Proxy::start().url();
    let message = child.var("http_proxy", &gone).fetch(&server.url("/kernel"), None).message();
    assert!(message.contains(gone.trim_start_matches("http://")), "{message}");
    let message =
        child.var("http_proxy", "socks5://127.0.0.1:9").fetch(&server.url("/kernel"), None);
    let message = message.message();
    assert!(message.contains("http_proxy") && message.contains("socks5"), "{message}");
    assert!(server.requests().is_empty());
}

/// Behaviour 23: the password of a private server is taken from `.netrc`, in the home directory
/// or where `NETRC` says.
#[test]
fn a_private_server_gets_the_password_of_netrc() {
    let Some(child) = Child::of_this_test() else { return };
    let server = Server::start();
    // "me:hush-hush"
    let private = Route::new(kernel()).require_authorization("Basic bWU6aHVzaC1odXNo");
    server.route("/kernel", private);
    let url = server.url("/kernel");
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join(".netrc");
    fs_err::write(&file, "machine 127.0.0.1 login me password hush-hush\n").unwrap();
    fs_err::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();

    let from_home = child.var("HOME", home.path().to_str().unwrap()).var("NETRC", "");
    assert_eq!(from_home.fetch(&url, None), Outcome::fetched(&kernel()));
    let from_variable = child.var("NETRC", file.to_str().unwrap());
    assert_eq!(from_variable.fetch(&url, None), Outcome::fetched(&kernel()));

    let before = server.requests().len();
    let message = child.fetch(&url, None).message();
    assert!(message.contains("401") && message.contains(".netrc"), "{message}");
    assert!(!message.contains("hush"), "{message}");
    assert_eq!(server.requests().len(), before + 1);
}

/// Behaviours 17 and 23: a bearer token goes to the host and port that it is for, and not on to
/// the one that a redirect leads to.
#[test]
fn a_bearer_token_is_for_its_host_alone() {
    let Some(child) = Child::of_this_test() else { return };
    let (private, other) = (Server::start(), Server::start());
    private.route("/kernel", Route::new(kernel()).require_authorization("Bearer t0ken"));
    let away = Route::new(Vec::new()).fault(Fault::RedirectTo(other.url("/kernel")));
    private.route("/away", away.require_authorization("Bearer t0ken"));
    other.route("/kernel", Route::new(kernel()));
    let tokens = format!("elsewhere.test=n0, {}=t0ken", private.host());
    let child = child.var("SMOLVM_BEARER_TOKENS", &tokens);
    for path in ["/kernel", "/away"] {
        let outcome = child.fetch(&private.url(path), None);
        assert_eq!(outcome, Outcome::fetched(&kernel()), "{path}");
    }
    assert_eq!(other.requests()[0].header("Authorization"), None);
}
