//! What is written to a server: a GET request, or the CONNECT request for a proxy's tunnel.

use url::{Position, Url};

use super::error::HttpError;
use super::proxy::Proxy;

const USER_AGENT: &str = concat!("smolvm/", env!("CARGO_PKG_VERSION"));

/// The bytes of a request that is under construction.
struct Request(String);

/// A GET request of `url` (RFC 9112 section 3).
///
/// With `via`, it is in the absolute form that a proxy wants. With `keep`, the connection may go on
/// after the answer. The caller's `headers` go before
/// ours, and in place of those of the same name.
pub(super) fn get(
    url: &Url,
    headers: &[(&str, String)],
    authorization: Option<String>,
    via: Option<&Proxy>,
    keep: bool,
) -> Result<Vec<u8>, HttpError> {
    let authority = &url[Position::BeforeHost..Position::AfterPort];
    let path = &url[Position::BeforePath..Position::AfterQuery];
    let mut request = match via {
        Some(_) => Request(format!("GET {}://{authority}{path} HTTP/1.1\r\n", url.scheme())),
        None => Request(format!("GET {path} HTTP/1.1\r\n")),
    };
    request.field("Host", authority)?;
    for (name, value) in headers {
        request.field(name, value)?;
    }
    let is_given = |name: &str| headers.iter().any(|(given, _)| given.eq_ignore_ascii_case(name));
    for (name, value) in [("User-Agent", USER_AGENT), ("Accept", "*/*")] {
        if !is_given(name) {
            request.field(name, value)?;
        }
    }
    // Digests are of the file as published, and ranges of it are asked for.
    request.field("Accept-Encoding", "identity")?;
    if !keep {
        request.field("Connection", "close")?;
    }
    if let Some(authorization) = authorization.filter(|_| !is_given("Authorization")) {
        request.field("Authorization", &authorization)?;
    }
    request.proxy_authorization(via)?;
    Ok(request.finish())
}

/// A request to `proxy` for a tunnel to `target`, a host and port (RFC 9110 section 9.3.6).
pub(super) fn connect(target: &str, proxy: &Proxy) -> Result<Vec<u8>, HttpError> {
    let mut request = Request(format!("CONNECT {target} HTTP/1.1\r\n"));
    request.field("Host", target)?;
    request.field("User-Agent", USER_AGENT)?;
    request.proxy_authorization(Some(proxy))?;
    Ok(request.finish())
}

impl Request {
    fn field(&mut self, name: &str, value: &str) -> Result<(), HttpError> {
        // A value that ends its line early would be read as more headers, or as a request.
        if value.chars().any(|c| c.is_ascii_control() && c != '\t') {
            return Err(HttpError::HeaderValue { name: name.to_owned() });
        }
        self.0.extend([name, ": ", value, "\r\n"]);
        Ok(())
    }

    fn proxy_authorization(&mut self, proxy: Option<&Proxy>) -> Result<(), HttpError> {
        match proxy.and_then(Proxy::authorization) {
            Some(value) => self.field("Proxy-Authorization", &value),
            None => Ok(()),
        }
    }

    fn finish(mut self) -> Vec<u8> {
        self.0.push_str("\r\n");
        self.0.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::super::proxy::Proxies;
    use super::*;

    fn written(url: &str, headers: &[(&str, String)], authorization: Option<&str>) -> String {
        let url = url.parse().unwrap();
        let bytes = get(&url, headers, authorization.map(str::to_owned), None, false).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_request_asks_for_the_bytes_as_they_are() {
        let headers = [("Range", "bytes=5-".to_owned())];
        let expected = format!(
            "GET /a%20b?c=d HTTP/1.1\r\nHost: h:81\r\nRange: bytes=5-\r\nUser-Agent: {USER_AGENT}\r\n\
             Accept: */*\r\nAccept-Encoding: identity\r\nConnection: close\r\n\
             Authorization: Basic x\r\n\r\n"
        );
        assert_eq!(written("http://u:p@h:81/a b?c=d#f", &headers, Some("Basic x")), expected);
    }

    #[test]
    fn the_callers_headers_stand_in_for_ours() {
        let headers = [("accept", "text/x".to_owned()), ("authorization", "Bearer y".to_owned())];
        let text = written("https://[::1]:443", &headers, Some("Basic x"));
        assert!(text.starts_with("GET / HTTP/1.1\r\nHost: [::1]\r\naccept: text/x\r\n"), "{text}");
        assert!(text.contains("authorization: Bearer y") && !text.contains("Basic"), "{text}");
        assert!(!text.contains("*/*"), "{text}");
    }

    #[test]
    fn a_header_cannot_end_its_line() {
        for value in ["a\r\nX: y", "a\nb", "a\0"] {
            let headers = [("If-Range", value.to_owned())];
            let refused = get(&"http://h/".parse().unwrap(), &headers, None, None, false);
            assert!(matches!(refused, Err(HttpError::HeaderValue { .. })), "{value:?}");
        }
    }

    #[test]
    fn a_proxy_is_asked_in_its_own_forms() {
        let proxies = Proxies::from_vars(|_| Some("http://u:p@proxy:1".to_owned()));
        let url = "http://me:pw@h/x?y".parse().unwrap();
        let Ok(Some(proxy)) = proxies.choose(&url) else { panic!("no proxy") };
        let text = String::from_utf8(get(&url, &[], None, Some(proxy), false).unwrap()).unwrap();
        assert!(text.starts_with("GET http://h/x?y HTTP/1.1\r\nHost: h\r\n"), "{text}");
        assert!(text.ends_with("Proxy-Authorization: Basic dTpw\r\n\r\n"), "{text}");
        let text = String::from_utf8(connect("h:443", proxy).unwrap()).unwrap();
        assert!(text.starts_with("CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n"), "{text}");
        assert!(text.ends_with("Proxy-Authorization: Basic dTpw\r\n\r\n"), "{text}");
    }
}
