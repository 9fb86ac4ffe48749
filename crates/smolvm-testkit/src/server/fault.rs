//! What can be wrong with an answer; several faults on one request add up.

use std::sync::Arc;
use std::time::Duration;

use super::Gate;

/// One thing wrong with an answer. Positions are bytes of the body of *this* response, without
/// chunk framing, unless they are said to be offsets of the entity.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Closes the connection in order after that many bytes; a chunked body then has no last chunk.
    CutAt(u64),
    /// Resets the connection (TCP RST) once the peer's kernel has taken that many bytes.
    ResetAt(u64),
    /// Sends nothing for that long after that many bytes, then goes on; ends early when either
    /// end closes the connection.
    StallAt(u64, Duration),
    /// After that many bytes, waits for the test to open the gate.
    HoldAt(u64, Gate),
    /// Sends the body no faster than this.
    Throttle {
        /// The rate; below 20 it is one byte at a time.
        bytes_per_second: u64,
    },

    /// Closes the connection with no answer at all, as one that was idle for too long.
    CloseUnanswered,
    /// Sends nothing for that long, then the answer.
    SlowHead(Duration),
    /// Sends half of the head, then nothing until either end closes the connection.
    StallInHead,
    /// Closes the connection in the middle of the head.
    CutInHead,
    /// Sends header fields without end.
    EndlessHead,
    /// Sends these bytes in the place of the head; the body follows.
    RawHead(Vec<u8>),
    /// Sends an interim answer (RFC 9110, section 15.2), such as 103, before the real one.
    Interim(u16),
    /// Adds a header field, or replaces those of that name.
    Header(&'static str, String),
    /// Leaves out a header field.
    WithoutHeader(&'static str),

    /// Sends this value as `Content-Length`, whatever the body: a wrong number, or none at all.
    ContentLength(String),
    /// Sends a second `Content-Length` with this value.
    RepeatContentLength(String),
    /// Sends no `Content-Length`: the end of the connection is the end of the body.
    NoContentLength,
    /// Sends the body chunked (RFC 9112, section 7.1).
    Chunked,
    /// Sends noise without a length and without end, after what the body has.
    EndlessBody,
    /// Sends that many more bytes than `Content-Length` says.
    ExtraBytes(u64),

    /// Answers a range request with 200 and everything.
    IgnoreRange,
    /// Answers a range request as if `If-Range` were not there: the part of another version.
    IgnoreIfRange,
    /// Answers a range request with 206 for a range one byte further on (or back, at the end).
    WrongRange,
    /// Answers a range request with the right part and this `Content-Range`.
    ContentRange(String),
    /// Answers a range request with 416.
    RangeNotSatisfiable,

    /// The resource is another version by now: other bytes, another `ETag`.
    Replaced {
        /// The new entity tag, quotes included.
        etag: String,
        /// The new content.
        bytes: Arc<[u8]>,
    },
    /// Gzips the entity and says so in `Content-Encoding`, though identity was asked for.
    Gzip,
    /// Flips the lowest bit of the byte at this offset of the entity.
    FlipByteAt(u64),
    /// Sends an HTML page in the place of the entity, with status 200 unless [`Fault::Status`]
    /// says otherwise.
    ErrorPage,

    /// Answers with this status and a short text.
    Status(u16),
    /// Answers with this status and a `Retry-After` of this value: seconds, or an HTTP date.
    RetryAfter {
        /// 429 or 503, as a rule.
        status: u16,
        /// The value as sent.
        value: String,
    },
    /// Answers with 302 to this location; [`Fault::Status`] makes it another redirect.
    RedirectTo(String),
    /// Answers with 302 to the same path and a query that counts on, so that no two URLs of the
    /// loop are equal.
    RedirectLoop,
}

impl Fault {
    /// [`Fault::Replaced`] from anything that is bytes.
    pub fn replaced(etag: &str, bytes: impl Into<Arc<[u8]>>) -> Self {
        Self::Replaced { etag: etag.to_owned(), bytes: bytes.into() }
    }

    /// A stall that only the end of the connection ends.
    pub fn stall_at(position: u64) -> Self {
        Self::StallAt(position, Duration::from_hours(24))
    }
}
