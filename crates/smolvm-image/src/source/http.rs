//! `http:` and `https:` URLs: what a status and its headers mean for a transfer.

use std::io::{self, Read};
use std::time::SystemTime;

use super::content_range::{self, ContentRange};
use super::encoding::{self, Encoding};
use super::retry_after;
use super::{Answer, Ask, Failure, Opened, Parts, Retry, Validators};
use crate::asset_url::AssetUrl;
use crate::cancel::CancelToken;
use crate::http::{Body, Client, Framing, Headers, HttpError, Response};
use crate::transfer::TransferError;

pub(super) fn open(
    client: &Client,
    url: &AssetUrl,
    ask: &Ask<'_>,
    cancel: &CancelToken,
) -> Result<Answer, Failure> {
    let response =
        client.get(url.expose(), &request_headers(ask), ask.kept, cancel).map_err(|error| {
            let retry = if error.is_retryable() { Retry::Yes } else { Retry::Never };
            Failure { error: TransferError::connection(url, error), retry }
        })?;
    match response.status {
        200 => whole(response),
        206 if ask.offset > 0 => Ok(part(response, ask)),
        304 if ask.unless.is_some() => Ok(Answer::Unchanged),
        416 if ask.offset > 0 => Ok(beyond_the_end(&response.headers, ask)),
        status => Err(refused(status, &response.headers)),
    }
}

fn request_headers(ask: &Ask<'_>) -> Vec<(&'static str, String)> {
    let mut headers = Vec::new();
    if ask.offset > 0 {
        let last = ask.end.map(|end| end.saturating_sub(1).to_string()).unwrap_or_default();
        headers.push(("Range", format!("bytes={}-{last}", ask.offset)));
        if let Some(validator) = ask.if_range {
            headers.push(("If-Range", validator.to_owned()));
        }
    }
    if let Some(known) = ask.unless {
        // A server that knows entity tags ignores the date (RFC 9110 section 13.1.3).
        headers.extend(known.etag.clone().map(|etag| ("If-None-Match", etag)));
        headers.extend(known.last_modified.clone().map(|date| ("If-Modified-Since", date)));
    }
    if ask.no_cache {
        headers.push(("Cache-Control", "no-cache".to_owned()));
        // For caches that speak HTTP/1.0 (RFC 9111 section 5.4).
        headers.push(("Pragma", "no-cache".to_owned()));
    }
    headers
}

/// 200: everything, from the beginning.
fn whole(response: Response) -> Result<Answer, Failure> {
    let encoding = encoding::parse(response.headers.get_all("Content-Encoding"))
        .map_err(|name| Failure { error: TransferError::Encoding(name), retry: Retry::Never })?;
    let framing = response.body.framing();
    // Of an encoded body neither the length nor a range says anything about the bytes in it, but
    // gzip has an end of its own.
    let plain = encoding == Encoding::Identity;
    let mut validators = validators_of(&response.headers);
    if !plain {
        validators.if_range = None;
    }
    Ok(Answer::Body(Opened {
        continues: false,
        total: match framing {
            Framing::Length(length) if plain => Some(length),
            _ => None,
        },
        ends_surely: !plain || framing != Framing::UntilClose,
        parts: if plain { parts_of(&response.headers) } else { Parts::Unknown },
        from_cache: is_from_cache(&response.headers),
        validators,
        body: encoding::decode(encoding, HttpBody(response.body)),
    }))
}

/// 206: the part that was asked for, or something that must not be put behind what we have.
fn part(response: Response, ask: &Ask<'_>) -> Answer {
    let headers = &response.headers;
    let range = headers.get("Content-Range").and_then(content_range::parse);
    let Some(ContentRange::Part { first, last, total }) = range else {
        return Answer::StartOver;
    };
    let length = last - first + 1;
    let wanted = ask.end.map_or(u64::MAX, |end| end.saturating_sub(first));
    let framed = match response.body.framing() {
        Framing::Length(announced) => announced == length,
        Framing::Chunked | Framing::UntilClose => true,
    };
    let same_size = match (ask.total, total) {
        (Some(known), Some(total)) => known == total,
        _ => true,
    };
    let validators = validators_of(headers);
    // A server that does not know `If-Range` sends a part of whatever it has now.
    // With the part comes the entity tag that the whole would have (RFC 9110 section 15.3.7); the
    // date may be left out.
    let same_version = match ask.if_range {
        Some(tag) if tag.starts_with('"') => validators.etag.as_deref() == Some(tag),
        Some(date) => validators.last_modified.as_deref().is_none_or(|now| now == date),
        None => true,
    };
    let plain = encoding::parse(headers.get_all("Content-Encoding")) == Ok(Encoding::Identity);
    if first != ask.offset || !framed || !same_size || !same_version || !plain {
        return Answer::StartOver;
    }
    Answer::Body(Opened {
        continues: true,
        total: total.or(ask.total),
        ends_surely: false,
        parts: Parts::Offered,
        from_cache: is_from_cache(headers),
        validators,
        // More than what was announced and asked for is not taken, however the body is framed.
        body: Box::new(HttpBody(response.body).take(length.min(wanted))),
    })
}

/// 416: there is nothing after the offset. That is the end, or another version.
fn beyond_the_end(headers: &Headers, ask: &Ask<'_>) -> Answer {
    match headers.get("Content-Range").and_then(content_range::parse) {
        Some(ContentRange::Unsatisfied { total }) if total == ask.offset => Answer::Complete,
        _ => Answer::StartOver,
    }
}

fn refused(status: u16, headers: &Headers) -> Failure {
    let retry = match status {
        408 | 425 | 429 | 500..=599 => headers
            .get("Retry-After")
            .and_then(|value| retry_after::parse(value, SystemTime::now()))
            .map_or(Retry::Yes, Retry::After),
        _ => Retry::Never,
    };
    Failure { error: TransferError::Status(status), retry }
}

fn validators_of(headers: &Headers) -> Validators {
    let etag = headers.get("ETag").map(str::to_owned);
    let last_modified = headers.get("Last-Modified").map(str::to_owned);
    let strong_etag = etag.clone().filter(|etag| etag.starts_with('"'));
    let strong_date = last_modified.clone().filter(|date| is_strong_date(date, headers));
    Validators { if_range: strong_etag.or(strong_date), etag, last_modified }
}

/// Whether a `Last-Modified` is a strong validator: at least a second before the answer, so that
/// the file was not changed twice within the second (RFC 9110 section 8.8.2.2).
fn is_strong_date(last_modified: &str, headers: &Headers) -> bool {
    let date = headers.get("Date").and_then(|date| httpdate::parse_http_date(date).ok());
    let modified = httpdate::parse_http_date(last_modified).ok();
    date.zip(modified).is_some_and(|(date, modified)| {
        date.duration_since(modified).is_ok_and(|age| age.as_secs() >= 1)
    })
}

/// Whether the server says that it answers requests for a range (RFC 9110 section 14.3).
fn parts_of(headers: &Headers) -> Parts {
    let mut units = headers.get_all("Accept-Ranges").flat_map(|value| value.split(','));
    let offered = units.any(|unit| unit.trim().eq_ignore_ascii_case("bytes"));
    if offered { Parts::Offered } else { Parts::Unknown }
}

/// Whether the headers show a cache on the way (RFC 9111 section 5.1, RFC 9110 section 7.6.3).
fn is_from_cache(headers: &Headers) -> bool {
    ["Age", "Via", "X-Cache", "X-Cache-Lookup", "CF-Cache-Status", "X-Served-By", "Cache-Status"]
        .iter()
        .any(|name| headers.get(name).is_some())
}

/// A body as a reader, so that decoders can be put on it.
struct HttpBody(Body);

impl Read for HttpBody {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).map_err(|error: HttpError| io::Error::other(error))
    }
}
