//! `Content-Encoding` (RFC 9110 section 8.4): asked for is `identity`, but some servers compress
//! all the same, and the digest is that of the bytes without it.

use std::io::Read;

/// How a body is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Identity,
    Gzip,
}

/// Reads the header's values; the error is the one that we cannot undo.
pub(super) fn parse<'a>(values: impl Iterator<Item = &'a str>) -> Result<Encoding, String> {
    let mut encoding = Encoding::Identity;
    for value in values.flat_map(|line| line.split(',')).map(str::trim) {
        match value.to_ascii_lowercase().as_str() {
            "" | "identity" => {}
            "gzip" | "x-gzip" if encoding == Encoding::Identity => encoding = Encoding::Gzip,
            _ => return Err(value.escape_default().to_string()),
        }
    }
    Ok(encoding)
}

/// The bytes without the encoding.
pub(super) fn decode(encoding: Encoding, body: impl Read + Send + 'static) -> Box<dyn Read + Send> {
    match encoding {
        Encoding::Identity => Box::new(body),
        Encoding::Gzip => Box::new(flate2::read::MultiGzDecoder::new(body)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings() {
        assert_eq!(parse([].into_iter()), Ok(Encoding::Identity));
        assert_eq!(parse(["Identity", ""].into_iter()), Ok(Encoding::Identity));
        assert_eq!(parse(["identity, GZIP"].into_iter()), Ok(Encoding::Gzip));
        assert_eq!(parse(["br"].into_iter()), Err("br".to_owned()));
        assert_eq!(parse(["gzip", "gzip"].into_iter()), Err("gzip".to_owned()));
    }
}
