//! Which proxy a request goes through, and as whom.

use std::fmt;

use url::{Host, Url};

use super::credentials::userinfo_as_basic;
use super::no_proxy::NoProxy;
use crate::asset_url::Redacted;

/// The proxies of the environment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Proxies {
    http: Option<Setting>,
    https: Option<Setting>,
    no_proxy: NoProxy,
}

/// A variable that names a proxy. One that cannot be used is an error only when it is needed.
type Setting = Result<Proxy, ProxyError>;

/// A proxy server that is reached by `http` or `https`.
#[derive(Clone)]
pub(crate) struct Proxy(Url);

/// Why a proxy cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProxyError {
    #[error("the variable {variable} is not the URL of a proxy; write http://host:port")]
    Malformed { variable: &'static str },
    #[error(
        "the variable {variable} names a {scheme} proxy, but only http and https ones are \
         supported; set it to one of those, or list the host in no_proxy"
    )]
    Scheme { variable: &'static str, scheme: String },
    #[error("the proxy {proxy} refuses to reach {target} with status {status}{}", advice(*.status))]
    Refused { proxy: String, target: String, status: u16 },
}

impl Proxies {
    /// Reads `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy`, in lower or upper case.
    pub(crate) fn from_env() -> Self {
        Self::from_vars(|name| std::env::var(name).ok())
    }

    /// As [`from_env`](Self::from_env), with `var` in place of the environment.
    ///
    /// Lower case wins. An empty variable is as good as none. `HTTP_PROXY` does not count inside
    /// a CGI program (`REQUEST_METHOD` is set), where the client of the server sets it by a
    /// header (CVE-2016-5385, "httpoxy").
    pub(crate) fn from_vars(var: impl Fn(&str) -> Option<String>) -> Self {
        let find = |names: &[&'static str]| {
            names.iter().find_map(|&name| {
                let value = var(name)?;
                let value = value.trim();
                (!value.is_empty()).then(|| (name, value.to_owned()))
            })
        };
        let proxy = |names: &[&'static str]| {
            find(names).map(|(variable, value)| Proxy::parse(variable, &value))
        };
        let is_cgi = var("REQUEST_METHOD").is_some();
        let http: &[_] = if is_cgi {
            &["http_proxy", "all_proxy", "ALL_PROXY"]
        } else {
            &["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"]
        };
        let no_proxy = find(&["no_proxy", "NO_PROXY"]).map(|(_, list)| NoProxy::parse(&list));
        Self {
            http: proxy(http),
            https: proxy(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]),
            no_proxy: no_proxy.unwrap_or_default(),
        }
    }

    /// The proxy for a request of `url`, or `None` for the direct way.
    pub(super) fn choose(&self, url: &Url) -> Result<Option<&Proxy>, ProxyError> {
        let setting = if url.scheme() == "https" { &self.https } else { &self.http };
        match setting {
            Some(setting) if !self.no_proxy.exempts(url) => {
                setting.as_ref().map(Some).map_err(Clone::clone)
            }
            _ => Ok(None),
        }
    }
}

impl Proxy {
    fn parse(variable: &'static str, value: &str) -> Setting {
        let malformed = |_| ProxyError::Malformed { variable };
        let url = if value.contains("://") {
            Url::parse(value)
        } else {
            Url::parse(&format!("http://{value}"))
        };
        let url = url.map_err(malformed)?;
        match url.scheme() {
            "http" | "https" => Ok(Self(url)),
            scheme => Err(ProxyError::Scheme { variable, scheme: scheme.to_owned() }),
        }
    }

    /// The host to connect to.
    pub(super) fn host(&self) -> Option<Host<&str>> {
        self.0.host()
    }

    /// The port to connect to: that of the scheme if the URL has none.
    pub(super) fn port(&self) -> Option<u16> {
        self.0.port_or_known_default()
    }

    /// Whether the proxy itself is spoken to in TLS.
    pub(super) fn is_secure(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// The value of `Proxy-Authorization`, if the proxy's URL has a user name.
    pub(super) fn authorization(&self) -> Option<String> {
        userinfo_as_basic(&self.0)
    }

    /// The error that its answer `status` is.
    pub(super) fn refused(&self, target: String, status: u16) -> ProxyError {
        ProxyError::Refused { proxy: self.to_string(), target, status }
    }
}

impl ProxyError {
    /// Whether the proxy may answer otherwise the next time.
    pub(super) fn is_retryable(&self) -> bool {
        matches!(self, Self::Refused { status: 408 | 425 | 429 | 500..=599, .. })
    }
}

/// What to do about the answer of a proxy.
fn advice(status: u16) -> &'static str {
    match status {
        407 => "; put user name and password into the proxy's URL: http://user:password@host:port",
        401 | 403 | 405 => "; ask its operator, or list the host in no_proxy to go past it",
        _ => "",
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Redacted(&self.0).fmt(f)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn proxies(vars: &[(&str, &str)]) -> Proxies {
        Proxies::from_vars(|name| {
            vars.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    fn chosen(vars: &[(&str, &str)], url: &str) -> Result<Option<String>, ProxyError> {
        let chosen = proxies(vars).choose(&url.parse().unwrap())?.map(ToString::to_string);
        Ok(chosen)
    }

    /// Behaviour 23: the variables for proxies are honoured.
    #[test]
    fn the_proxy_is_that_of_the_scheme() {
        let all = [
            ("http_proxy", "h:1"),
            ("HTTP_PROXY", "upper"),
            ("HTTPS_PROXY", "https://s:2"),
            ("all_proxy", "a"),
            ("no_proxy", "direct"),
            ("NO_PROXY", "*"),
        ];
        for (vars, url, proxy) in [
            (&all[..], "http://x/", Some("http://h:1/")),
            (&all[..], "https://x/", Some("https://s:2/")),
            (&all[1..], "http://x/", Some("http://upper/")),
            (&all[3..], "http://x/", Some("http://a/")),
            (&all[3..], "https://x/", Some("http://a/")),
            (&all[..], "http://direct/", None),
            (&all[5..], "http://x/", None),
            (&[("http_proxy", " "), ("HTTP_PROXY", "h")], "http://x/", Some("http://h/")),
            (&[("http_proxy", "h")], "https://x/", None),
        ] {
            assert_eq!(chosen(vars, url), Ok(proxy.map(str::to_owned)), "{vars:?} {url}");
        }
    }

    #[test]
    fn a_header_of_a_cgi_request_is_no_proxy() {
        let cgi = ("REQUEST_METHOD", "GET");
        assert_eq!(chosen(&[("HTTP_PROXY", "h"), cgi], "http://x/"), Ok(None));
        let lower = chosen(&[("http_proxy", "h"), cgi], "http://x/");
        assert_eq!(lower, Ok(Some("http://h/".to_owned())));
    }

    #[test]
    fn an_unusable_proxy_is_an_error_when_it_is_needed() {
        let socks = [("ALL_PROXY", "socks5h://u:p@h:1"), ("no_proxy", "direct")];
        let error = chosen(&socks, "http://x/").unwrap_err();
        assert!(error.to_string().contains("ALL_PROXY names a socks5h proxy"), "{error}");
        assert_eq!(chosen(&socks, "http://direct/"), Ok(None));
        let malformed = Err(ProxyError::Malformed { variable: "https_proxy" });
        assert_eq!(chosen(&[("https_proxy", "h:port")], "https://x/"), malformed);
    }

    #[test]
    fn the_password_is_sent_but_not_shown() {
        let proxies = proxies(&[("http_proxy", "me:p%40ss@h:1")]);
        let proxy = proxies.choose(&"http://x/".parse().unwrap()).unwrap().unwrap();
        assert_eq!(proxy.authorization().unwrap(), "Basic bWU6cEBzcw==");
        assert_eq!(proxy.to_string(), "http://h:1/");
        assert!(!format!("{proxies:?}").contains("ss@"));
    }

    proptest! {
        #[test]
        fn no_value_panics(value: String) {
            let _ = chosen(&[("all_proxy", &value), ("no_proxy", &value)], "http://x/");
        }
    }
}
