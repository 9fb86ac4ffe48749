//! The framing of the chunked transfer coding (RFC 9112 section 7.1), without the data.

/// Follows the framing of a chunked body; keeps nothing of what it reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chunked {
    state: State,
    /// Length of the size line so far.
    line: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In the hex digits of a chunk's size.
    Size { value: u64, digits: bool },
    /// Behind the size, before the end of its line.
    Extension { value: u64 },
    /// In a chunk, this many bytes before its end; never 0.
    Data { left: u64 },
    /// Behind the data of a chunk, before the end of its line.
    AfterData { carriage_return: bool },
    /// Behind the size line of the last chunk. Trailers may follow: nobody reads them, since
    /// the connection is not used again.
    Done,
}

/// The longest size line with its extensions, which nobody uses.
const MAX_LINE: usize = 4096;

/// Why a body is not in chunks although its head says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ChunkError {
    #[error("the size of a chunk is no hexadecimal number of at most 64 bits")]
    Size,
    #[error("the size line of a chunk is longer than {MAX_LINE} bytes")]
    LongLine,
    #[error("a chunk is longer than its size")]
    Overrun,
}

impl Chunked {
    /// At the start of a body.
    pub(super) fn new() -> Self {
        Self { state: State::Size { value: 0, digits: false }, line: 0 }
    }

    /// Whether the last chunk was seen.
    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// How many bytes of data come next; 0 means framing comes next, or nothing.
    pub(super) fn data_left(&self) -> u64 {
        match self.state {
            State::Data { left } => left,
            _ => 0,
        }
    }

    /// Notes that `count` bytes of data, at most [`data_left`](Self::data_left), were taken.
    pub(super) fn take_data(&mut self, count: u64) {
        if let State::Data { left } = &mut self.state {
            *left = left.saturating_sub(count);
            if *left == 0 {
                self.state = State::AfterData { carriage_return: false };
            }
        }
    }

    /// Reads framing up to the next data, the end of the body or the end of `input`; returns how
    /// many bytes it took.
    pub(super) fn read_framing(&mut self, input: &[u8]) -> Result<usize, ChunkError> {
        for (index, &byte) in input.iter().enumerate() {
            match self.state {
                State::Data { .. } | State::Done => return Ok(index),
                State::AfterData { carriage_return } => self.after_data(carriage_return, byte)?,
                State::Size { value, digits } => self.size(value, digits, byte)?,
                State::Extension { value } => self.extension(value, byte)?,
            }
        }
        Ok(input.len())
    }

    fn after_data(&mut self, carriage_return: bool, byte: u8) -> Result<(), ChunkError> {
        match byte {
            b'\r' if !carriage_return => self.state = State::AfterData { carriage_return: true },
            // A bare line feed ends a line too (RFC 9112 section 2.2).
            b'\n' => *self = Self::new(),
            _ => return Err(ChunkError::Overrun),
        }
        Ok(())
    }

    fn size(&mut self, value: u64, digits: bool, byte: u8) -> Result<(), ChunkError> {
        self.lengthen_line()?;
        if let Some(digit) = char::from(byte).to_digit(16) {
            let value = value.checked_mul(16).ok_or(ChunkError::Size)? | u64::from(digit);
            self.state = State::Size { value, digits: true };
            return Ok(());
        }
        match byte {
            b'\r' | b'\n' | b';' | b' ' | b'\t' if digits => self.extension(value, byte),
            _ => Err(ChunkError::Size),
        }
    }

    fn extension(&mut self, value: u64, byte: u8) -> Result<(), ChunkError> {
        self.lengthen_line()?;
        self.state = match (byte, value) {
            (b'\n', 0) => State::Done,
            (b'\n', left) => State::Data { left },
            _ => State::Extension { value },
        };
        Ok(())
    }

    fn lengthen_line(&mut self) -> Result<(), ChunkError> {
        self.line += 1;
        if self.line > MAX_LINE { Err(ChunkError::LongLine) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Decodes `pieces` that came one after the other: the data, and whether the end was seen.
    fn decode<'a>(
        pieces: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<(Vec<u8>, bool), ChunkError> {
        let (mut decoder, mut data) = (Chunked::new(), Vec::new());
        for mut piece in pieces {
            while !piece.is_empty() && !decoder.is_done() {
                let left = usize::try_from(decoder.data_left()).unwrap_or(usize::MAX);
                let used = if left > 0 {
                    let used = left.min(piece.len());
                    data.extend_from_slice(&piece[..used]);
                    decoder.take_data(used as u64);
                    used
                } else {
                    decoder.read_framing(piece)?
                };
                piece = &piece[used..];
            }
        }
        Ok((data, decoder.is_done()))
    }

    fn decode_text(text: &str) -> Result<(String, bool), ChunkError> {
        decode([text.as_bytes()]).map(|(data, done)| (String::from_utf8(data).unwrap(), done))
    }

    #[test]
    fn bodies_are_decoded() {
        for (text, data, done) in [
            ("3\r\nabc\r\n0\r\n\r\n", "abc", true),
            ("00A \r\n0123456789\r\n0;x=y\r\nTrailer: t\r\n\r\n", "0123456789", true),
            ("1;name=\"v\"\r\na\r\n1\nb\n0\n", "ab", true),
            ("3\r\nabc\r\n0\r", "abc", false),
            ("5\r\nabc", "abc", false),
            ("", "", false),
        ] {
            assert_eq!(decode_text(text), Ok((data.to_owned(), done)), "{text:?}");
        }
    }

    #[test]
    fn broken_framing_is_refused() {
        for (text, error) in [
            ("\r\n", ChunkError::Size),
            ("-1\r\n", ChunkError::Size),
            ("0x3\r\nabc", ChunkError::Size),
            ("<html>", ChunkError::Size),
            ("10000000000000000\r\n", ChunkError::Size),
            ("ffffffffffffffffffffffff\r\n", ChunkError::Size),
            ("3\r\nabcd\r\n0\r\n", ChunkError::Overrun),
            ("3\r\nabc\r\r\n", ChunkError::Overrun),
            (&format!("3;{}", "x".repeat(MAX_LINE)), ChunkError::LongLine),
            (&"0".repeat(MAX_LINE + 1), ChunkError::LongLine),
        ] {
            assert_eq!(decode_text(text), Err(error), "{text:?}");
        }
        assert_eq!(decode_text("ffffffffffffffff\r\nabc"), Ok(("abc".to_owned(), false)));
    }

    proptest! {
        #[test]
        fn a_body_is_the_same_in_any_pieces(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..8),
            piece in 1_usize..30,
        ) {
            let mut body = Vec::new();
            for chunk in &chunks {
                body.extend_from_slice(format!("{:x};e\r\n", chunk.len()).as_bytes());
                body.extend_from_slice(chunk);
                body.extend_from_slice(b"\r\n");
            }
            body.extend_from_slice(b"0\r\n\r\n");
            prop_assert_eq!(decode(body.chunks(piece)), Ok((chunks.concat(), true)));
        }

        #[test]
        fn no_bytes_panic(text in "[0-9a-fA-F;\r\n x]{0,60}", bytes: Vec<u8>, piece in 1_usize..9) {
            let whole = decode([text.as_bytes(), &bytes]);
            let input = [text.as_bytes(), &bytes].concat();
            prop_assert_eq!(decode(input.chunks(piece)), whole);
        }
    }
}
