//! As whom the client asks.

use smolvm_testkit::{Route, Server};

use super::*;

/// Behaviour 23: `.netrc` and bearer tokens reach private servers, and those alone.
#[test]
fn private_servers_are_asked_with_their_credentials() {
    let (private, netrc, public) = (Server::start(), Server::start(), Server::start());
    private.route("/x", Route::new(b"a".to_vec()).require_authorization("Bearer t0ken"));
    netrc.route("/x", Route::new(b"b".to_vec()).require_authorization("Basic bWU6cHc="));
    public.route("/x", Route::new(b"c".to_vec()));
    let home = tempfile::tempdir().unwrap();
    fs_err::write(home.path().join(".netrc"), "machine localhost login me password pw").unwrap();
    let credentials = Credentials::from_vars(
        |name| (name == "SMOLVM_BEARER_TOKENS").then(|| format!("{}=t0ken", private.host())),
        Some(home.path().to_owned()),
    );
    let client = Client::new(ClientConfig { credentials, ..ClientConfig::default() });
    assert_eq!(download(&client, &private.url("/x")).unwrap(), b"a");
    assert_eq!(
        download(&client, &netrc.url("/x").replace("127.0.0.1", "localhost")).unwrap(),
        b"b"
    );
    assert_eq!(get(&client, &netrc.url("/x")).unwrap().status, 401);
    assert_eq!(download(&client, &public.url("/x")).unwrap(), b"c");
    assert_eq!(public.requests()[0].header("Authorization"), None);
}
