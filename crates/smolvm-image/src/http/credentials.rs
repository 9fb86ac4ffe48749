//! [`Credentials`]: as whom a server is asked.
//!
//! In this order: user name and password of the URL, a token of `SMOLVM_BEARER_TOKENS`, an entry
//! of the `.netrc` file. As with curl, they go to the host they were given for whether or not the
//! connection is secure; a private server should have an `https` URL.

use std::fmt;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use url::Url;

use super::netrc::Netrc;

/// The variable with the bearer tokens: `host[:port]=token`, separated by commas.
const BEARER_TOKENS: &str = "SMOLVM_BEARER_TOKENS";

/// The passwords and tokens of the environment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Credentials {
    tokens: Vec<BearerToken>,
    netrc_file: Option<PathBuf>,
    /// Read when the first request needs it.
    netrc: OnceLock<Netrc>,
}

#[derive(Clone)]
struct BearerToken {
    /// As in a URL: IPv6 addresses in brackets.
    host: String,
    /// `None` fits every port.
    port: Option<u16>,
    token: String,
}

impl Credentials {
    /// Reads `SMOLVM_BEARER_TOKENS` and `NETRC`; the `.netrc` file is that of the home directory
    /// if the latter is not set.
    pub(crate) fn from_env() -> Self {
        Self::from_vars(|name| std::env::var(name).ok(), home::home_dir())
    }

    /// As [`from_env`](Self::from_env), with `var` and `home` in place of the environment.
    pub(crate) fn from_vars(var: impl Fn(&str) -> Option<String>, home: Option<PathBuf>) -> Self {
        let var = |name| var(name).filter(|value| !value.trim().is_empty());
        let netrc_file =
            var("NETRC").map(PathBuf::from).or_else(|| home.map(|home| home.join(".netrc")));
        let tokens = var(BEARER_TOKENS).map(|list| parse_tokens(&list)).unwrap_or_default();
        Self { tokens, netrc_file, netrc: OnceLock::new() }
    }

    /// The value of `Authorization` for a request of `url`, if there is one. A server that was not
    /// `chosen` by the user, but redirected to, gets only what is kept under its own name.
    pub(super) fn authorization(&self, url: &Url, chosen: bool) -> Option<String> {
        if let Some(basic) = userinfo_as_basic(url) {
            return Some(basic);
        }
        if let Some(fitting) = self.tokens.iter().find(|token| token.fits(url)) {
            return Some(format!("Bearer {}", fitting.token));
        }
        let host = url.host_str()?;
        let netrc = self
            .netrc
            .get_or_init(|| self.netrc_file.as_deref().map_or_else(Netrc::default, read_netrc));
        let entry = if chosen { netrc.find(host) } else { netrc.find_machine(host) };
        entry.map(|(login, password)| basic(login.as_bytes(), password.as_bytes()))
    }
}

impl BearerToken {
    fn fits(&self, url: &Url) -> bool {
        url.host_str().is_some_and(|host| host.eq_ignore_ascii_case(&self.host))
            && (self.port.is_none() || self.port == url.port_or_known_default())
    }
}

fn parse_tokens(list: &str) -> Vec<BearerToken> {
    let mut tokens = Vec::new();
    for (index, entry) in list.split(',').map(str::trim).enumerate() {
        match parse_token(entry) {
            Some(token) => tokens.push(token),
            None if entry.is_empty() => {}
            // Not the entry itself: it may well be a token.
            None => log::warn!(
                "entry {} of {BEARER_TOKENS} is ignored: it is not host=token or host:port=token",
                index + 1
            ),
        }
    }
    tokens
}

fn parse_token(entry: &str) -> Option<BearerToken> {
    let (server, token) = entry.split_once('=')?;
    let (server, token) = (server.trim(), token.trim());
    let (host, port) = match server.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port.parse().ok()?)),
        _ => (server, None),
    };
    (!host.is_empty() && !token.is_empty()).then(|| BearerToken {
        host: host.to_owned(),
        port,
        token: token.to_owned(),
    })
}

/// The entries of the file; none if it is missing or cannot be read.
fn read_netrc(path: &Path) -> Netrc {
    let bytes = match fs_err::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Netrc::default(),
        Err(error) => {
            log::warn!("no passwords are taken from it: {error}");
            return Netrc::default();
        }
    };
    let mode = fs_err::metadata(path).map_or(0, |found| found.permissions().mode());
    if mode & 0o077 != 0 {
        log::warn!("{} has passwords in it and others may read it; chmod 600 it", path.display());
    }
    Netrc::parse(&String::from_utf8_lossy(&bytes))
}

/// User name and password of a URL, if it has any, as the `Basic` scheme has them (RFC 7617).
pub(super) fn userinfo_as_basic(url: &Url) -> Option<String> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let user: Vec<u8> = percent_decode_str(url.username()).collect();
    let password: Vec<u8> = percent_decode_str(url.password().unwrap_or_default()).collect();
    Some(basic(&user, &password))
}

fn basic(user: &[u8], password: &[u8]) -> String {
    format!("Basic {}", STANDARD.encode([user, b":", password].concat()))
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BearerToken({}, ***)", self.host)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn credentials(tokens: &str, netrc: &str) -> (Credentials, tempfile::TempDir) {
        let home = tempfile::tempdir().unwrap();
        fs_err::write(home.path().join(".netrc"), netrc).unwrap();
        let var = |name: &str| (name == BEARER_TOKENS).then(|| tokens.to_owned());
        (Credentials::from_vars(var, Some(home.path().to_owned())), home)
    }

    /// Behaviour 23: `.netrc` and bearer tokens are honoured, the URL's own user first.
    #[test]
    fn the_most_particular_credentials_win() {
        let (credentials, home) = credentials(
            "token.example=abc==, port.example:8443=def , [::1]=v6, nonsense, x:y=z",
            "machine token.example login a password b\nmachine net.example login me password pw",
        );
        for (url, value) in [
            ("https://u:p%40@token.example/", Some("Basic dTpwQA==")),
            ("https://token.example/", Some("Bearer abc==")),
            ("https://TOKEN.example:1/", Some("Bearer abc==")),
            ("https://port.example:8443/", Some("Bearer def")),
            ("https://port.example/", None),
            ("http://[::1]:5/", Some("Bearer v6")),
            ("http://net.example/", Some("Basic bWU6cHc=")),
            ("http://sub.net.example/", None),
            ("http://nonsense/", None),
        ] {
            let found = credentials.authorization(&url.parse().unwrap(), true);
            assert_eq!(found.as_deref(), value, "{url}");
        }
        // The name of the directory is made at random, and may well have a `pw` in it.
        let shown = format!("{credentials:?}").replace(&*home.path().to_string_lossy(), "");
        assert!(!["abc", "def", "pw"].iter().any(|secret| shown.contains(secret)), "{shown}");
    }

    #[test]
    fn netrc_names_another_file_and_a_missing_one_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("passwords");
        let named = || {
            Credentials::from_vars(
                |name| (name == "NETRC").then(|| file.to_str().unwrap().to_owned()),
                None,
            )
        };
        let url = "http://h/".parse().unwrap();
        assert_eq!(named().authorization(&url, true), None);
        fs_err::create_dir(&file).unwrap();
        assert_eq!(named().authorization(&url, true), None);
        fs_err::remove_dir(&file).unwrap();
        fs_err::write(&file, "default login a password b").unwrap();
        assert_eq!(named().authorization(&url, true).unwrap(), "Basic YTpi");
    }

    /// Behaviour 17: a server that was only redirected to gets what is kept under its name, and
    /// not what is kept for all.
    #[test]
    fn a_default_is_not_for_servers_that_were_redirected_to() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("netrc");
        fs_err::write(&file, "machine known login a password b\ndefault login c password d")
            .unwrap();
        let vars = |name: &str| (name == "NETRC").then(|| file.to_str().unwrap().to_owned());
        let credentials = Credentials::from_vars(vars, None);
        let (known, other) = ("http://known/".parse().unwrap(), "http://other/".parse().unwrap());
        assert_eq!(credentials.authorization(&known, false).as_deref(), Some("Basic YTpi"));
        assert_eq!(credentials.authorization(&other, false), None);
        assert_eq!(credentials.authorization(&other, true).as_deref(), Some("Basic Yzpk"));
    }

    proptest! {
        #[test]
        fn no_list_panics(list: String, odd in "[a:=,\\[\\] 0-9]{0,30}") {
            let _ = (parse_tokens(&list), parse_tokens(&odd));
        }
    }
}
