//! The `Content-Range` header (RFC 9110 section 14.4).

/// What a `Content-Range` in bytes says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ContentRange {
    /// `bytes 2-5/10`, both ends included, or with `*` for the size.
    Part { first: u64, last: u64, total: Option<u64> },
    /// `bytes */10`: no part, the size alone.
    Unsatisfied { total: u64 },
}

/// Reads the value of the header; `None` for anything that the RFC does not allow.
pub(super) fn parse(value: &str) -> Option<ContentRange> {
    let (unit, rest) = value.trim().split_once(' ')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (range, total) = rest.trim().split_once('/')?;
    let total = if total == "*" { None } else { Some(number(total)?) };
    if range == "*" {
        return total.map(|total| ContentRange::Unsatisfied { total });
    }
    let (first, last) = range.split_once('-')?;
    let (first, last) = (number(first)?, number(last)?);
    // A part of 2^64 bytes has no length that could be counted.
    let fits = first <= last && last < u64::MAX && total.is_none_or(|total| last < total);
    fits.then_some(ContentRange::Part { first, last, total })
}

/// Digits and nothing else: `u64::from_str` would take a sign, too.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_the_rfc_does_not_allow() {
        for value in [
            "",
            "bytes",
            "bytes 1-2",
            "bytes 2-1/10",
            "bytes 0-10/10",
            "bytes +1-2/10",
            "bytes */*",
            "items 0-1/2",
            "bytes 0-18446744073709551616/*",
            "bytes -1-2/3",
            "bytes a-b/c",
            "bytes 0-18446744073709551615/*",
        ] {
            assert_eq!(parse(value), None, "{value}");
        }
    }

    proptest! {
        /// Behaviour 14: every range that a server may state is read as it is.
        #[test]
        fn ranges_read_back(first: u64, length in 0u64..1_000_000, more in proptest::option::of(1u64..1_000_000)) {
            let first = first / 2;
            let last = first + length;
            let total = more.map(|more| last + more);
            let shown = total.map_or("*".to_owned(), |total| total.to_string());
            let expected = ContentRange::Part { first, last, total };
            prop_assert_eq!(parse(&format!("Bytes {first}-{last}/{shown}")), Some(expected));
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = parse(&text);
            let _ = parse(&format!("bytes {text}"));
        }
    }
}
