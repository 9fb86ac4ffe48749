//! The access log that nginx writes for a test, as values.

/// The `log_format` that [`LogLine::parse`] reads: fields with a tab between them.
pub(crate) const FORMAT: &str =
    r"$request_method\t$request_uri\t$status\t$body_bytes_sent\t$http_range";

/// One request as nginx saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// The method, such as `GET`.
    pub method: String,
    /// The target as sent, query included.
    pub uri: String,
    /// The status of the answer.
    pub status: u16,
    /// The bytes of body that were sent, without the head.
    pub body_bytes_sent: u64,
    /// The value of the request's `Range`.
    pub range: Option<String>,
}

impl LogLine {
    /// Reads a line; `None` when it is not whole, as the last one may be.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let mut fields = line.strip_suffix('\n')?.split('\t').map(str::to_owned);
        Some(Self {
            method: fields.next()?,
            uri: fields.next()?,
            status: fields.next()?.parse().ok()?,
            body_bytes_sent: fields.next()?.parse().ok()?,
            range: fields.next().filter(|range| !range.is_empty()),
        })
    }
}
