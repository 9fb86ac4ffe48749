//! [`Body`]: the bytes of a response, up to the end that its head announces (RFC 9112 section 6).

use std::fmt;
use std::io::{self, Read};

use url::Url;

use super::chunked::Chunked;
use super::error::HttpError;
use super::head::{Head, HeadError};
use super::headers::Headers;
use super::kept::Place;
use super::stream::Stream;
use crate::asset_url::Redacted;

/// How much is read at a time where chunks begin and end; in the middle of them, and in other
/// bodies, reads go into the caller's buffer.
const FRAMING_READ: usize = 64 * 1024;

/// What says where a body ends (RFC 9112 section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// A length in bytes.
    Length(u64),
    /// Chunks, the last of which is empty.
    Chunked,
    /// The end of the connection, which may also be a failure in the middle: what came is only
    /// known to be whole by its digest or its structure.
    UntilClose,
}

/// The body of a response, which is read from the connection.
pub(crate) struct Body {
    /// `None` once it is kept for another request.
    stream: Option<Stream>,
    /// Where the connection goes after the last byte, if it may go on.
    place: Option<Place>,
    /// Bytes that were read together with the head or with the framing of chunks.
    buffered: Buffered,
    framing: Framing,
    chunks: Chunked,
    received: u64,
    is_complete: bool,
    url: Url,
}

#[derive(Default)]
struct Buffered {
    bytes: Vec<u8>,
    taken: usize,
}

impl Framing {
    /// The framing that a head announces.
    ///
    /// A `Content-Length` that is repeated or is not a number is no hint of anything, so that a
    /// body behind it is taken as it comes.
    fn of(status: u16, headers: &Headers) -> Result<Self, HeadError> {
        if matches!(status, 204 | 304) {
            return Ok(Self::Length(0));
        }
        let codings: Vec<&str> = headers
            .get_all("Transfer-Encoding")
            .flat_map(|value| value.split(','))
            .map(str::trim)
            .filter(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case("identity"))
            .collect();
        match codings[..] {
            [] => {}
            [coding] if coding.eq_ignore_ascii_case("chunked") => return Ok(Self::Chunked),
            _ => return Err(HeadError::TransferCoding(codings.join(", "))),
        }
        let mut lengths = headers.get_all("Content-Length");
        Ok(match (lengths.next().and_then(parse_length), lengths.next()) {
            (Some(length), None) => Self::Length(length),
            _ => Self::UntilClose,
        })
    }
}

/// Whether the server will close the connection (RFC 9112 section 9.6).
fn says_close(headers: &Headers) -> bool {
    let mut options = headers.get_all("Connection").flat_map(|value| value.split(','));
    options.any(|option| option.trim().eq_ignore_ascii_case("close"))
}

/// Digits and nothing else: `u64::from_str` would take a plus sign too.
fn parse_length(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

impl Body {
    /// The body behind `head`, on the connection that the head came from.
    pub(super) fn new(
        head: Head,
        stream: Stream,
        place: Option<Place>,
        url: &Url,
    ) -> Result<(u16, Headers, Self), HttpError> {
        let framing = Framing::of(head.status, &head.headers)
            .map_err(|error| HttpError::from_head(url, error))?;
        let place = place.filter(|_| head.goes_on && !says_close(&head.headers));
        let mut body = Self {
            stream: Some(stream),
            place,
            buffered: Buffered { bytes: head.leftover, taken: 0 },
            framing,
            chunks: Chunked::new(),
            received: 0,
            is_complete: framing == Framing::Length(0),
            url: url.clone(),
        };
        body.keep();
        Ok((head.status, head.headers, body))
    }

    /// What says where this body ends.
    pub(crate) fn framing(&self) -> Framing {
        self.framing
    }

    /// Reads some bytes; 0 means that the body is complete (or that `buffer` is empty).
    ///
    /// A body that ends too early is an error, [`HttpError::ClosedEarly`].
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, HttpError> {
        if self.is_complete || buffer.is_empty() {
            return Ok(0);
        }
        let read = match self.framing {
            Framing::Length(length) => self.read_part(buffer, length - self.received)?,
            Framing::Chunked => self.read_chunked(buffer)?,
            Framing::UntilClose => self.pull(buffer)?,
        };
        self.received += read as u64;
        self.is_complete = match self.framing {
            Framing::Length(length) => self.received == length,
            Framing::Chunked | Framing::UntilClose => read == 0,
        };
        self.keep();
        Ok(read)
    }

    /// Keeps the connection for the next request, if this answer is over and nothing follows it
    /// that nobody has asked for.
    fn keep(&mut self) {
        // Behind the last chunk there may be a trailer, which nobody reads.
        let is_over = self.is_complete && matches!(self.framing, Framing::Length(_));
        if is_over
            && self.buffered.rest().is_empty()
            && let Some(place) = self.place.take()
            && let Some(stream) = self.stream.take()
        {
            place.put(stream);
        }
    }

    fn read_chunked(&mut self, buffer: &mut [u8]) -> Result<usize, HttpError> {
        while !self.chunks.is_done() {
            let left = self.chunks.data_left();
            if left > 0 {
                let read = self.read_part(buffer, left)?;
                self.chunks.take_data(read as u64);
                return Ok(read);
            }
            if self.buffered.rest().is_empty() && self.refill()? == 0 {
                return Err(self.closed_early());
            }
            let used = self.chunks.read_framing(self.buffered.rest()).map_err(|source| {
                HttpError::Chunk { url: Redacted(&self.url).to_string(), source }
            })?;
            self.buffered.taken += used;
        }
        Ok(0)
    }

    /// Reads into `buffer`, but not more than `left` bytes, which have to come.
    fn read_part(&mut self, buffer: &mut [u8], left: u64) -> Result<usize, HttpError> {
        let size = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        match self.pull(&mut buffer[..size])? {
            0 => Err(self.closed_early()),
            read => Ok(read),
        }
    }

    /// What is buffered, else a single read from the connection into `buffer`.
    fn pull(&mut self, buffer: &mut [u8]) -> Result<usize, HttpError> {
        match self.buffered.take(buffer) {
            0 => {
                let Some(stream) = &mut self.stream else { return Ok(0) };
                let read = stream.read(buffer);
                read.map_err(|error| self.failed(error))
            }
            taken => Ok(taken),
        }
    }

    fn refill(&mut self) -> Result<usize, HttpError> {
        self.buffered.bytes.resize(FRAMING_READ, 0);
        self.buffered.taken = 0;
        let Some(stream) = &mut self.stream else { return Ok(0) };
        let read = stream.read(&mut self.buffered.bytes);
        self.buffered.bytes.truncate(*read.as_ref().unwrap_or(&0));
        read.map_err(|error| self.failed(error))
    }

    fn failed(&self, error: io::Error) -> HttpError {
        // TLS says so of a connection that ends without a good-bye: somebody may have cut it.
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return self.closed_early();
        }
        HttpError::from_io(&self.url, error)
    }

    fn closed_early(&self) -> HttpError {
        let expected = match self.framing {
            Framing::Length(length) => Some(length),
            Framing::Chunked | Framing::UntilClose => None,
        };
        let url = Redacted(&self.url).to_string();
        HttpError::ClosedEarly { url, received: self.received, expected }
    }
}

impl Buffered {
    fn rest(&self) -> &[u8] {
        &self.bytes[self.taken..]
    }

    fn take(&mut self, buffer: &mut [u8]) -> usize {
        let rest = self.rest();
        let size = rest.len().min(buffer.len());
        buffer[..size].copy_from_slice(&rest[..size]);
        self.taken += size;
        size
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Body({:?}, {} bytes read)", self.framing, self.received)
    }
}
