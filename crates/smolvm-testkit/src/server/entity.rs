//! The bytes and validators of a resource, and the part of them that one response carries.

use std::io::Write as _;
use std::ops::Range;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::headers::Headers;

/// One version of a resource: its bytes, and the header fields that describe it.
#[derive(Clone, Debug)]
pub(super) struct Entity {
    pub(super) bytes: Arc<[u8]>,
    pub(super) headers: Headers,
    /// Offsets of bytes that go on the wire with their lowest bit flipped.
    pub(super) flips: Vec<u64>,
}

impl Entity {
    pub(super) fn new(bytes: Arc<[u8]>) -> Self {
        Self { bytes, headers: Headers::default(), flips: Vec::new() }
    }

    pub(super) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// The same resource, gzipped (RFC 9110, section 8.4.1.3).
    pub(super) fn gzip(&mut self) {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&self.bytes).expect("a Vec takes all");
        self.bytes = encoder.finish().expect("a Vec takes all").into();
        self.headers.set("Content-Encoding", "gzip");
    }

    /// A part of it as a body.
    pub(super) fn part(&self, range: Range<u64>) -> Body {
        Body { bytes: Arc::clone(&self.bytes), range, flips: self.flips.clone() }
    }
}

/// The bytes of one response: a range of shared bytes, so that no body is ever copied whole.
#[derive(Clone, Debug)]
pub(super) struct Body {
    bytes: Arc<[u8]>,
    range: Range<u64>,
    flips: Vec<u64>,
}

impl Body {
    pub(super) fn whole(bytes: impl Into<Arc<[u8]>>) -> Self {
        let entity = Entity::new(bytes.into());
        entity.part(0..entity.len())
    }

    pub(super) fn len(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// At most `limit` bytes from `position` of this body.
    pub(super) fn slice(&self, position: u64, limit: usize) -> std::borrow::Cow<'_, [u8]> {
        let start = self.range.start + position;
        let end = self.range.end.min(start + limit as u64);
        let slice = &self.bytes[index(start)..index(end)];
        let flips = self.flips.iter().filter(|&&at| (start..end).contains(&at));
        let mut slice = std::borrow::Cow::Borrowed(slice);
        for at in flips {
            slice.to_mut()[index(at - start)] ^= 1;
        }
        slice
    }
}

fn index(offset: u64) -> usize {
    usize::try_from(offset).expect("an offset of bytes in memory")
}
