//! Reads the head of a response: status line and header fields (RFC 9112 sections 4 and 5).

use std::io::{self, Read};

use super::headers::Headers;

/// The largest head that is read; servers send hundreds of bytes, seldom thousands.
const MAX_BYTES: usize = 64 * 1024;
const MAX_FIELDS: usize = 128;
/// How many interim responses may come before the real one.
const MAX_INTERIM: usize = 16;
const READ_SIZE: usize = 16 * 1024;

/// The head of a response, and what came in the same reads but belongs to its body.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: u16,
    pub(super) headers: Headers,
    /// Whether it is HTTP/1.1, whose connections go on unless something says otherwise.
    pub(super) goes_on: bool,
    pub(super) leftover: Vec<u8>,
}

/// Why the head of a response cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HeadError {
    #[error(transparent)]
    Read(io::Error),
    #[error("the connection was closed before the answer was complete")]
    ClosedEarly,
    #[error("it is not HTTP/1.1: {0}")]
    NotHttp(#[from] httparse::Error),
    #[error("its header is larger than {} KiB", MAX_BYTES / 1024)]
    TooLarge,
    #[error("its header has more than {MAX_FIELDS} fields")]
    TooManyFields,
    #[error("there are more than {MAX_INTERIM} interim answers and no final one")]
    TooManyInterim,
    #[error("its body has the transfer coding {0:?}, which was not asked for")]
    TransferCoding(String),
}

impl HeadError {
    /// Whether the next answer may be another.
    pub(super) fn is_retryable(&self) -> bool {
        matches!(self, Self::Read(_) | Self::ClosedEarly)
    }
}

/// Reads the head of the final response; interim ones (1xx) are skipped (RFC 9110 section 15.2).
pub(super) fn read_head(stream: &mut impl Read) -> Result<Head, HeadError> {
    let mut bytes = Vec::new();
    for _ in 0..=MAX_INTERIM {
        let head = read_one(stream, bytes)?;
        // 101 would be the answer to an Upgrade, which is never asked for.
        if !(100..200).contains(&head.status) {
            return Ok(head);
        }
        bytes = head.leftover;
    }
    Err(HeadError::TooManyInterim)
}

fn read_one(stream: &mut impl Read, mut bytes: Vec<u8>) -> Result<Head, HeadError> {
    let mut unseen = 0;
    loop {
        // Only a line break can complete a head, so other bytes need no new parsing.
        if bytes[unseen..].contains(&b'\n')
            && let Some(head) = parse(&bytes)?
        {
            return Ok(head);
        }
        unseen = bytes.len();
        if unseen >= MAX_BYTES {
            return Err(HeadError::TooLarge);
        }
        bytes.resize(unseen + READ_SIZE.min(MAX_BYTES - unseen), 0);
        let read = match stream.read(&mut bytes[unseen..]) {
            Ok(0) => return Err(HeadError::ClosedEarly),
            Ok(read) => read,
            // TLS says so of a connection that is closed without a good-bye.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(HeadError::ClosedEarly);
            }
            Err(error) => return Err(HeadError::Read(error)),
        };
        bytes.truncate(unseen + read);
    }
}

/// The head at the start of `bytes`, `None` while it is incomplete.
fn parse(bytes: &[u8]) -> Result<Option<Head>, HeadError> {
    let mut config = httparse::ParserConfig::default();
    config
        .allow_obsolete_multiline_headers_in_responses(true)
        .allow_spaces_after_header_name_in_responses(true)
        .allow_multiple_spaces_in_response_status_delimiters(true);
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut response = httparse::Response::new(&mut fields);
    let size = match config.parse_response(&mut response, bytes) {
        Ok(httparse::Status::Complete(size)) => size,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(HeadError::TooManyFields),
        Err(error) => return Err(error.into()),
    };
    Ok(Some(Head {
        status: response.code.unwrap_or_default(),
        headers: response.headers.iter().collect(),
        goes_on: response.version == Some(1),
        leftover: bytes[size..].to_vec(),
    }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Gives out `piece` bytes at a time.
    struct Pieces<'a> {
        bytes: &'a [u8],
        piece: usize,
    }

    impl Read for Pieces<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let size = self.piece.min(self.bytes.len()).min(buffer.len());
            let (now, later) = self.bytes.split_at(size);
            buffer[..size].copy_from_slice(now);
            self.bytes = later;
            Ok(size)
        }
    }

    fn read(bytes: &[u8]) -> Result<Head, HeadError> {
        read_head(&mut Pieces { bytes, piece: usize::MAX })
    }

    #[test]
    fn a_head_is_the_same_in_any_pieces() {
        let bytes = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n\
            HTTP/1.1 200 OK\r\nETag:  \"a\" \r\nX: 1\r\nx: 2\r\nFolded: a\r\n b\r\n\r\nbody";
        for piece in 1..=bytes.len() {
            let mut rest = Pieces { bytes, piece };
            let head = read_head(&mut rest).unwrap();
            assert_eq!(head.status, 200);
            assert_eq!(head.headers.get("etag"), Some("\"a\""));
            assert_eq!(head.headers.get_all("X").collect::<Vec<_>>(), ["1", "2"]);
            assert!(head.headers.get("Folded").unwrap().starts_with('a'));
            assert!(!head.headers.get("Folded").unwrap().contains(['\r', '\n']));
            assert_eq!(head.headers.get("Link"), None);
            assert_eq!([&head.leftover[..], rest.bytes].concat(), b"body");
        }
    }

    #[test]
    fn http_1_0_and_sloppy_heads_are_read() {
        for bytes in [
            "HTTP/1.0 200\r\n\r\n",
            "HTTP/1.1 200 OK\n\n",
            "HTTP/1.1  200  OK\r\nServer : x\r\n\r\n",
            "HTTP/1.1 200 \u{fc}\r\nX: \u{fc}\r\n\r\n",
        ] {
            assert_eq!(read(bytes.as_bytes()).unwrap().status, 200, "{bytes:?}");
        }
    }

    #[test]
    fn a_cut_off_head_may_be_retried_and_another_protocol_not() {
        for bytes in ["", "HTTP/1.1 200 OK\r\nX: 1\r\n", "HTTP/1.1 100 Continue\r\n\r\n"] {
            let error = read(bytes.as_bytes()).unwrap_err();
            assert!(matches!(error, HeadError::ClosedEarly) && error.is_retryable(), "{error:?}");
        }
        for bytes in ["SSH-2.0-OpenSSH\r\n", "HTTP/2 200\r\n\r\n", "HTTP/1.1 200 OK\r\n: x\r\n\r\n"]
        {
            let error = read(bytes.as_bytes()).unwrap_err();
            assert!(matches!(error, HeadError::NotHttp(_)) && !error.is_retryable(), "{error:?}");
        }
    }

    #[test]
    fn a_head_without_end_is_refused() {
        let long = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(MAX_BYTES));
        assert!(matches!(read(long.as_bytes()), Err(HeadError::TooLarge)));
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: 1\r\n".repeat(MAX_FIELDS + 1));
        assert!(matches!(read(many.as_bytes()), Err(HeadError::TooManyFields)));
        let just = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: 1\r\n".repeat(MAX_FIELDS));
        assert_eq!(read(just.as_bytes()).unwrap().headers.get_all("x").count(), MAX_FIELDS);
        let interim = "HTTP/1.1 102 Processing\r\n\r\n".repeat(MAX_INTERIM + 1);
        assert!(matches!(read(interim.as_bytes()), Err(HeadError::TooManyInterim)));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>, piece in 1_usize..50) {
            let bytes = [b"HTTP/1.1 200 OK\r\n", &bytes[..]].concat();
            let _ = read_head(&mut Pieces { bytes: &bytes, piece });
        }
    }
}
