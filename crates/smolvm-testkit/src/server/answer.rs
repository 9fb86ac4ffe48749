//! The right answer to a request: conditions and ranges as RFC 9110 has them.

use std::ops::Range;

use super::entity::{Body, Entity};
use crate::headers::Headers;

/// Status, header fields without `Content-Length`, and body.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Headers,
    pub(super) body: Body,
}

/// What a `Range` field asks of an entity (RFC 9110, section 14.1.2).
#[derive(Debug, PartialEq, Eq)]
enum Part {
    /// No range, or one that may be ignored: the whole entity.
    Whole,
    /// These bytes.
    Of(Range<u64>),
    /// Bytes that the entity does not have.
    Beyond,
}

impl Answer {
    /// Answers a `GET` with these header fields.
    pub(super) fn to(request: &Headers, entity: &Entity) -> Self {
        let mut headers = entity.headers.clone();
        if is_not_modified(request, &entity.headers) {
            let body = entity.part(0..0);
            return Self::new(304, headers, body);
        }
        headers.push("Accept-Ranges", "bytes");
        let length = entity.len();
        let part = match request.get("range") {
            Some(range) if if_range_holds(request, &entity.headers) => part_of(range, length),
            _ => Part::Whole,
        };
        match part {
            Part::Whole => Self::new(200, headers, entity.part(0..length)),
            Part::Of(range) => {
                let (first, last) = (range.start, range.end - 1);
                headers.push("Content-Range", &format!("bytes {first}-{last}/{length}"));
                Self::new(206, headers, entity.part(range))
            }
            Part::Beyond => {
                let mut answer = Self::text(416);
                let content_range = format!("bytes */{length}");
                answer.headers.push("Content-Range", &content_range);
                answer
            }
        }
    }

    /// A status with a short text as body, where the status allows one.
    pub(super) fn text(status: u16) -> Self {
        let text = format!("status {status}\n");
        let body = if has_body(status) { text } else { String::new() };
        let mut headers = Headers::default();
        headers.push("Content-Type", "text/plain");
        Self::new(status, headers, Body::whole(body.into_bytes()))
    }

    pub(super) fn redirect(location: &str) -> Self {
        Self::text(302).with("Location", location)
    }

    pub(super) fn not_found() -> Self {
        Self::text(404)
    }

    pub(super) fn unauthorized() -> Self {
        Self::text(401).with("WWW-Authenticate", "Basic realm=\"test\"")
    }

    pub(super) fn method_not_allowed() -> Self {
        Self::text(405).with("Allow", "GET")
    }

    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push(name, value);
        self
    }

    fn new(status: u16, headers: Headers, body: Body) -> Self {
        Self { status, headers, body }
    }
}

/// Whether an answer of that status may have a body (RFC 9110, section 6.4.1).
pub(super) fn has_body(status: u16) -> bool {
    !matches!(status, 100..=199 | 204 | 304)
}

/// The first and last byte that a single `bytes=` range names, the last if it is there.
pub(super) fn bounds(range: &str) -> Option<(u64, Option<u64>)> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let last = match last {
        "" => None,
        last => Some(last.parse().ok()?),
    };
    Some((first.parse().ok()?, last))
}

/// RFC 9110, section 13.2.2: `If-None-Match` goes before `If-Modified-Since`.
fn is_not_modified(request: &Headers, entity: &Headers) -> bool {
    if let Some(condition) = request.get("if-none-match") {
        let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
        return entity.get("etag").is_some_and(|etag| {
            let mut tags = condition.split(',');
            condition.trim() == "*" || tags.any(|tag| opaque(tag) == opaque(etag))
        });
    }
    let date = |value: Option<&str>| httpdate::parse_http_date(value?).ok();
    match (date(request.get("if-modified-since")), date(entity.get("last-modified"))) {
        (Some(since), Some(modified)) => modified <= since,
        _ => false,
    }
}

/// RFC 9110, section 13.1.5: an exact match of a strong tag or of the date.
fn if_range_holds(request: &Headers, entity: &Headers) -> bool {
    match request.get("if-range") {
        None => true,
        Some(tag) if tag.starts_with("W/") => false,
        Some(tag) if tag.starts_with('"') => entity.get("etag") == Some(tag),
        Some(date) => entity.get("last-modified") == Some(date),
    }
}

fn part_of(range: &str, length: u64) -> Part {
    if let Some(suffix) = range.strip_prefix("bytes=-") {
        return match suffix.parse::<u64>() {
            Err(_) => Part::Whole,
            Ok(0) => Part::Beyond,
            Ok(suffix) => Part::Of(length.saturating_sub(suffix)..length),
        };
    }
    match bounds(range) {
        None => Part::Whole,
        Some((first, Some(last))) if last < first => Part::Whole,
        Some((first, _)) if first >= length => Part::Beyond,
        Some((first, last)) => {
            let end = last.map_or(length, |last| length.min(last.saturating_add(1)));
            Part::Of(first..end)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_those_of_rfc_9110() {
        for (range, part) in [
            ("bytes=0-", Part::Of(0..10)),
            ("bytes=3-", Part::Of(3..10)),
            ("bytes=3-5", Part::Of(3..6)),
            ("bytes=3-99", Part::Of(3..10)),
            ("bytes=-4", Part::Of(6..10)),
            ("bytes=-40", Part::Of(0..10)),
            ("bytes=10-", Part::Beyond),
            ("bytes=-0", Part::Beyond),
            ("bytes=5-3", Part::Whole),
            ("bytes=0-1,4-5", Part::Whole),
            ("lines=0-1", Part::Whole),
        ] {
            assert_eq!(part_of(range, 10), part, "{range}");
        }
    }

    #[test]
    fn a_weak_tag_never_holds_for_if_range() {
        let mut entity = Headers::default();
        entity.push("ETag", "W/\"v1\"");
        for (condition, holds) in [("W/\"v1\"", false), ("\"v1\"", false)] {
            let mut request = Headers::default();
            request.push("If-Range", condition);
            assert_eq!(if_range_holds(&request, &entity), holds, "{condition}");
        }
    }
}
