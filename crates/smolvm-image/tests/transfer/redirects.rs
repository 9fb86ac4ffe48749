//! Where redirects are followed to, and who gets the credentials.

use smolvm_testkit::content::sha256_hex;
use smolvm_testkit::{Authority, Fault, Route, Server};

use crate::bytes::{Bytes, noise};
use crate::scene::{Scene, failure};

fn kernel() -> Bytes {
    noise(50, 100_000)
}

fn redirect(to: &str) -> Route {
    Route::new(Vec::new()).fault(Fault::RedirectTo(to.to_owned()))
}

/// Behaviour 17: redirects are followed, of every kind, relative ones and to other hosts too.
#[test]
fn a_chain_of_redirects_is_followed() {
    for status in [301, 302, 303, 307, 308] {
        let (scene, first, second) = (Scene::new(), Server::start(), Server::start());
        first.route("/a", redirect("b").fault(Fault::Status(status)));
        first.route("/b", redirect(&second.url("/c")).fault(Fault::Status(status)));
        second.route("/c", redirect("/kernel?signature=1").fault(Fault::Status(status)));
        second.route("/kernel", Route::new(kernel()));
        assert_eq!(scene.fetch(&first.url("/a"), None).unwrap(), kernel(), "{status}");
        assert_eq!((first.requests().len(), second.requests().len()), (2, 2));
    }
}

/// Behaviour 17: a transfer that breaks behind a redirect goes on behind it, from where it broke.
#[test]
fn a_transfer_is_resumed_behind_a_redirect() {
    let (scene, server) = (Scene::new(), Server::start());
    server.route("/a", redirect("/kernel"));
    let route = Route::new(kernel()).etag("\"v1\"").fault_on(0, Fault::CutAt(40_000));
    server.route("/kernel", route);
    assert_eq!(scene.fetch(&server.url("/a"), None).unwrap(), kernel());
    assert_eq!(server.requests_for("/kernel")[1].header("Range"), Some("bytes=40000-"));
    assert_eq!(server.bytes_sent_for("/kernel"), 100_000);
}

/// Behaviour 17: a loop is ended, once and for all.
#[test]
fn a_loop_is_ended() {
    let (scene, server) = (Scene::new(), Server::start());
    server.route("/loop", Route::new(kernel()).fault(Fault::RedirectLoop));
    let (attempts, error) = failure(scene.fetch(&server.url("/loop"), None));
    assert!(error.to_string().contains("more than 10 redirects"), "{error}");
    assert_eq!((attempts, server.requests().len()), (1, 11));
    scene.assert_nothing_is_left();
}

/// Behaviour 17: a redirect leads to http or https and to nothing else.
#[test]
fn other_schemes_are_not_followed() {
    let secret = tempfile::NamedTempFile::new().unwrap();
    fs_err::write(secret.path(), kernel()).unwrap();
    let file = format!("file://{}", secret.path().display());
    for (location, scheme) in [
        (file.as_str(), "file"),
        ("ftp://127.0.0.1/kernel", "ftp"),
        ("data:,x", "data"),
        ("javascript:x", "javascript"),
        ("gopher://127.0.0.1/", "gopher"),
    ] {
        let (scene, server) = (Scene::new(), Server::start());
        server.route("/kernel", redirect(location));
        let url = server.url("/kernel");
        // The pin fits: it is not the digest that keeps the bytes out.
        let (attempts, error) = failure(scene.fetch(&url, Some(&sha256_hex(&kernel()))));
        let refusal = format!("redirects to a {scheme} URL");
        assert!(error.to_string().contains(&refusal), "{error}");
        assert_eq!((attempts, server.requests().len()), (1, 1));
        scene.assert_nothing_is_left();
    }
}

/// Behaviour 17: never from https to http; between https URLs it is followed.
#[test]
fn a_redirect_from_https_to_http_is_refused() {
    let authority = Authority::new();
    let (secure, open) = (Server::start_tls(&authority), Server::start());
    open.route("/kernel", Route::new(kernel()));
    secure.route("/down", redirect(&open.url("/kernel")));
    secure.route("/kernel", Route::new(kernel()));
    secure.route("/along", redirect("/kernel"));
    open.route("/up", redirect(&secure.url("/kernel")));

    let trusting = |scene: &Scene, url: &str| {
        let manager = scene.builder(url, None).ca_file(authority.ca_pem_path()).build().unwrap();
        scene.ensure(&manager)
    };
    let scene = Scene::new();
    let (attempts, error) = failure(trusting(&scene, &secure.url("/down")));
    assert!(error.to_string().contains("redirects from https to http"), "{error}");
    assert_eq!((attempts, open.requests().len()), (1, 0));
    scene.assert_nothing_is_left();
    assert_eq!(trusting(&Scene::new(), &secure.url("/along")).unwrap(), kernel());
    assert_eq!(trusting(&Scene::new(), &open.url("/up")).unwrap(), kernel());
}

/// Behaviour 17: the user and password of a URL go to its own server and to no other one; no
/// message has them.
#[test]
fn credentials_stay_with_their_server() {
    let (scene, own, other) = (Scene::new(), Server::start(), Server::start());
    let with_password = |url: String| url.replace("http://", "http://me:hush-hush@");
    own.route("/a", redirect("/b"));
    own.route("/b", redirect(&other.url("/kernel")));
    other.route("/kernel", Route::new(kernel()));
    assert_eq!(scene.fetch(&with_password(own.url("/a")), None).unwrap(), kernel());
    for request in own.requests() {
        assert_eq!(request.header("Authorization"), Some("Basic bWU6aHVzaC1odXNo"));
    }
    assert_eq!(other.requests().len(), 1);
    for (name, value) in other.requests()[0].headers.iter() {
        assert!(!name.eq_ignore_ascii_case("Authorization"));
        assert!(!value.contains("hush") && !value.contains("bWU6aHVzaC1odXNo"), "{name}: {value}");
    }

    let error = Scene::new().fetch(&with_password(own.url("/missing")), None).unwrap_err();
    assert!(!error.to_string().contains("hush") && !format!("{error:?}").contains("hush"));
}

/// Behaviour 17: a redirect that leads nowhere is an answer, and a definite one.
#[test]
fn a_redirect_without_location_is_a_refusal() {
    let (scene, server) = (Scene::new(), Server::start());
    server.route("/kernel", Route::new(kernel()).fault(Fault::Status(302)));
    let (attempts, error) = failure(scene.fetch(&server.url("/kernel"), None));
    assert_eq!(attempts, 1, "{error}");
    assert!(error.to_string().contains("302"), "{error}");
}
