//! The `Retry-After` header (RFC 9110 section 10.2.3), in both its forms.

use std::time::{Duration, SystemTime};

/// How long a server asks to be left alone: seconds, or the time from `now` to an HTTP date.
/// `None` for anything else.
pub(super) fn parse(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // Digits that do not fit mean very long.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Behaviour 13: both forms, and dates in the past.
    #[test]
    fn both_forms() {
        let now = httpdate::parse_http_date("Wed, 21 Oct 2015 07:28:00 GMT").unwrap();
        for (value, seconds) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("Wed, 21 Oct 2015 07:28:30 GMT", Some(30)),
            ("Wed, 21 Oct 2015 07:27:00 GMT", Some(0)),
            ("99999999999999999999999", Some(u64::MAX)),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(parse(value, now), seconds.map(Duration::from_secs), "{value:?}");
        }
    }

    proptest! {
        #[test]
        fn seconds_read_back(seconds: u64) {
            let parsed = parse(&seconds.to_string(), SystemTime::now());
            prop_assert_eq!(parsed, Some(Duration::from_secs(seconds)));
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = parse(&text, SystemTime::now());
        }
    }
}
