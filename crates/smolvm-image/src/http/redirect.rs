//! Where a redirect leads, and whether to go there (RFC 9110 section 15.4).

use url::Url;

use super::headers::Headers;
use crate::asset_url::Redacted;

/// How many redirects one request follows.
pub(super) const MAX_REDIRECTS: usize = 10;

/// Why a redirect is not followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RedirectError {
    #[error("{first}: more than {MAX_REDIRECTS} redirects; is this a loop on the server?")]
    TooMany { first: String },
    #[error("{from}: the server redirects to something that is not a URL")]
    Location { from: String },
    #[error("{from}: the server redirects to a {scheme} URL, which is not followed")]
    Scheme { from: String, scheme: String },
    #[error(
        "{from}: the server redirects from https to http, which is not followed; if {to} can be \
         trusted, use that URL"
    )]
    Downgrade { from: String, to: String },
}

/// The URL that an answer to the request of `from` redirects to, or `None` if the answer is meant.
pub(super) fn next_url(
    from: &Url,
    status: u16,
    headers: &Headers,
) -> Result<Option<Url>, RedirectError> {
    let Some(location) = headers.get("Location") else {
        return Ok(None);
    };
    if !matches!(status, 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let shown = || Redacted(from).to_string();
    let mut to = from.join(location).map_err(|_| RedirectError::Location { from: shown() })?;
    match (from.scheme(), to.scheme()) {
        ("https", "http") => {
            let to = Redacted(&to).to_string();
            return Err(RedirectError::Downgrade { from: shown(), to });
        }
        (_, "http" | "https") => {}
        (_, scheme) => {
            return Err(RedirectError::Scheme { from: shown(), scheme: scheme.to_owned() });
        }
    }
    to.set_fragment(None);
    keep_user(from, &mut to);
    Ok(Some(to))
}

/// The user of the URL stays the user on the same server, and there only.
fn keep_user(from: &Url, to: &mut Url) {
    if from.origin() == to.origin() && to.username().is_empty() && to.password().is_none() {
        // Neither fails for http and https.
        let _ = to.set_username(from.username());
        let _ = to.set_password(from.password());
    }
}

/// Whether a header of the caller's is for the server it was given for alone.
pub(super) fn is_private(header: &str) -> bool {
    ["Authorization", "Cookie", "Proxy-Authorization"]
        .iter()
        .any(|private| header.eq_ignore_ascii_case(private))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(location: &str) -> Headers {
        let field = httparse::Header { name: "location", value: location.as_bytes() };
        [&field].into_iter().collect()
    }

    fn next(from: &str, status: u16, location: &str) -> Result<Option<String>, RedirectError> {
        let next = next_url(&from.parse().unwrap(), status, &headers(location))?;
        Ok(next.map(String::from))
    }

    /// Behaviour 17: redirects are followed, and credentials stay with their host.
    #[test]
    fn redirects_lead_to_other_urls() {
        for (from, location, to) in [
            ("http://h/a/b?q", "c", "http://h/a/c"),
            ("http://h/a/b", "/c?x#frag", "http://h/c?x"),
            ("http://h/a", "//other/c", "http://other/c"),
            ("http://h/a", "https://h/a", "https://h/a"),
            ("https://h/a", "https://other:1/a", "https://other:1/a"),
            ("http://u:p@h/a", "b", "http://u:p@h/b"),
            ("http://u:p@h/a", "http://h:80/b", "http://u:p@h/b"),
            ("http://u:p@h/a", "http://h:81/b", "http://h:81/b"),
            ("http://u:p@h/a", "https://h/b", "https://h/b"),
            ("http://u:p@h/a", "http://h.evil/b", "http://h.evil/b"),
            ("http://u:p@h/a", "//other/b", "http://other/b"),
        ] {
            assert_eq!(next(from, 302, location), Ok(Some(to.to_owned())), "{from} {location}");
        }
    }

    #[test]
    fn only_redirects_redirect() {
        for status in [200, 201, 300, 304, 305, 404] {
            assert_eq!(next("http://h/", status, "/x"), Ok(None), "{status}");
        }
        for status in [301, 302, 303, 307, 308] {
            assert_eq!(next("http://h/", status, "/x"), Ok(Some("http://h/x".to_owned())));
            let none = next_url(&"http://h/".parse().unwrap(), status, &Headers::default());
            assert_eq!(none, Ok(None));
        }
    }

    /// Behaviour 17: never from https to http, never to anything but http(s).
    #[test]
    fn other_ways_are_not_gone() {
        let from = "https://u:p@h/a?sig=s";
        for location in ["file:///etc/passwd", "ftp://h/x", "data:,x", "javascript:x"] {
            let error = next(from, 301, location).unwrap_err();
            assert!(matches!(error, RedirectError::Scheme { .. }), "{location}: {error}");
        }
        let error = next(from, 301, "http://h/?sig=t").unwrap_err();
        assert!(matches!(error, RedirectError::Downgrade { .. }), "{error}");
        assert!(!error.to_string().contains("u:p") && !error.to_string().contains("=t"), "{error}");
        let error = next(from, 301, "http://[").unwrap_err();
        assert!(matches!(error, RedirectError::Location { .. }), "{error}");
    }
}
