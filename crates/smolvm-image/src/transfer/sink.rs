//! [`Sink`]: where received bytes go, to the partial file and to the hash, and who hears of it.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Transfer;
use super::hasher::Hasher;
use super::space::{Reservation, is_nearly_full};
use crate::buffer::Buffer;
use crate::cache::{Note, Partial, Parts};
use crate::digest::Digest;
use crate::error::ImageError;
use crate::progress::Event;
use crate::sniff;
use crate::write_out;

/// The shortest time between two reports of progress.
const REPORT: Duration = Duration::from_millis(50);

/// Bytes between two looks at the room that is left, where nobody said how much is to come.
const LOOK: u64 = 1 << 20;

/// Bytes that are written to the disk at once, where that begins before the end.
const WRITE_OUT: u64 = 8 << 20;

/// Where the bytes of one answer come from.
pub(super) trait Incoming: Read {
    /// Whether the next byte is to be read from here. It is not where it is in the file already, as
    /// a part of an earlier transfer.
    fn is_ready(&mut self, sink: &mut Sink<'_, '_>) -> Result<bool, ImageError> {
        Ok(!sink.is_at_part())
    }
}

impl Incoming for Box<dyn Read + Send> {}

/// Bytes that have come could not be written; travels inside an [`io::Error`] of reading, where it
/// was not the reader who wrote them.
#[derive(Debug, thiserror::Error)]
#[error("cannot write what was received")]
pub(super) struct NotWritten(#[source] pub(super) io::Error);

/// The receiving end of one transfer.
pub(super) struct Sink<'a, 'p> {
    transfer: &'a Transfer<'a>,
    partial: &'a mut Partial<'p>,
    hasher: Hasher,
    reservation: Option<Reservation<'a>>,
    /// The first bytes, as long as nothing else has come.
    head: Option<Vec<u8>>,
    received: u64,
    unmeasured: u64,
    reported: Option<Instant>,
    /// Bytes that the kernel was told to write to the disk, from the beginning.
    written_out: u64,
}

impl<'a, 'p> Sink<'a, 'p> {
    pub(super) fn new(
        transfer: &'a Transfer<'a>,
        partial: &'a mut Partial<'p>,
    ) -> Result<Self, ImageError> {
        let hasher = start_hasher(transfer, partial)?;
        Ok(Self {
            transfer,
            partial,
            hasher,
            reservation: None,
            head: None,
            received: 0,
            unmeasured: 0,
            reported: None,
            written_out: 0,
        })
    }

    /// Bytes in the file, from the beginning without a gap.
    pub(super) fn length(&self) -> u64 {
        self.partial.length()
    }

    /// Bytes in the file, wherever they are.
    pub(super) fn bytes(&self) -> u64 {
        self.partial.bytes()
    }

    /// Bytes that came since the sink was made.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// Counts bytes that somebody else has written to the file.
    pub(super) fn count_received(&mut self, bytes: u64) {
        self.received += bytes;
    }

    /// Whether the next byte is there already.
    pub(super) fn is_at_part(&self) -> bool {
        self.partial.parts().is_some_and(|parts| parts.end_at(self.length()).is_some())
    }

    /// Where the next part begins that is there already, if one does before the end.
    pub(super) fn next_part(&self) -> Option<u64> {
        let total = self.total()?;
        let missing = self.partial.parts()?.missing(self.length()..total);
        missing.first().map(|gap| gap.end).filter(|&end| end < total)
    }

    /// Lets others write to the file, ahead of what comes here.
    pub(super) fn write_in_parts(&mut self, total: u64) -> Result<Arc<Parts>, ImageError> {
        self.partial.write_in_parts(total)
    }

    /// Hashes what is there of the next bytes.
    pub(super) fn adopt(&mut self) -> Result<(), ImageError> {
        let Some(parts) = self.partial.parts().map(Arc::clone) else { return Ok(()) };
        while parts.end_at(self.length()).is_some() {
            if self.transfer.cancel.is_cancelled() {
                return Err(ImageError::Cancelled);
            }
            let mut buffer = self.hasher.buffer().map_err(|error| self.hash_failed(error))?;
            let count = parts.read(buffer.space(), self.length());
            let count = count.map_err(|error| self.hash_failed(error))?;
            buffer.fill(count);
            self.take(buffer, count as u64)?;
        }
        Ok(())
    }

    pub(super) fn note(&self) -> Option<&Note> {
        self.partial.note()
    }

    /// The size of the whole, where it is known.
    pub(super) fn total(&self) -> Option<u64> {
        self.note().and_then(|note| note.total)
    }

    /// Notes what the bytes to come are of, and reports what there is.
    pub(super) fn write_note(&mut self, note: Note) -> Result<(), ImageError> {
        self.partial.write_note(note)?;
        self.report(true);
        Ok(())
    }

    /// Forgets all bytes.
    pub(super) fn restart(&mut self) -> Result<(), ImageError> {
        self.head = None;
        self.written_out = 0;
        if self.partial.length() > 0 || self.partial.note().is_some() {
            self.partial.restart()?;
            // The one before may still be reading what was there.
            self.hasher = start_hasher(self.transfer, self.partial)?;
        }
        Ok(())
    }

    /// Sees that there is room for what is still to come of so many bytes in all.
    pub(super) fn reserve(&mut self, total: Option<u64>) -> Result<(), ImageError> {
        // The promise of the attempt before must not count against this one.
        self.reservation = None;
        if let Some(total) = total {
            let missing = total.saturating_sub(self.bytes());
            self.reservation = Some(self.transfer.space.reserve(self.partial.dir(), missing)?);
        }
        Ok(())
    }

    /// Receives one buffer. Says whether there may be more, or why there is none: what came
    /// before an error is kept. The outer error is that of this machine.
    pub(super) fn receive_from(
        &mut self,
        body: &mut impl Read,
    ) -> Result<io::Result<bool>, ImageError> {
        let mut buffer = match self.hasher.buffer() {
            Ok(buffer) => buffer,
            Err(error) => return Err(self.hash_failed(error)),
        };
        let most = self.total().map_or(u64::MAX, |total| total.saturating_sub(self.length()));
        let more = self.fill(&mut buffer, body, most);
        let count = buffer.bytes().len() as u64;
        if let Err(error) = self.partial.append(buffer.bytes()) {
            return Err(self.write_failed(error));
        }
        self.received += count;
        self.take(buffer, count)?;
        match more.map_err(io::Error::downcast::<NotWritten>) {
            Ok(more) => Ok(Ok(more)),
            Err(Ok(NotWritten(error))) => Err(self.write_failed(error)),
            Err(Err(error)) => Ok(Err(error)),
        }
    }

    /// Fills a buffer with at most `most` bytes, or as far as it comes until the next report is
    /// due: on a slow line that is less. Says whether there may be more.
    fn fill(&self, buffer: &mut Buffer, body: &mut impl Read, most: u64) -> io::Result<bool> {
        let mut left = usize::try_from(most).unwrap_or(usize::MAX);
        while !buffer.is_full() && left > 0 {
            let space = buffer.space();
            let wanted = left.min(space.len());
            match body.read(&mut space[..wanted]) {
                Ok(0) => return Ok(false),
                Ok(count) => {
                    buffer.fill(count);
                    left -= count;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The next bytes are in the file already.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
            if self.is_report_due() {
                break;
            }
        }
        Ok(true)
    }

    /// Counts and hashes bytes that are in the file.
    fn take(&mut self, buffer: Buffer, count: u64) -> Result<(), ImageError> {
        let bytes = buffer.bytes();
        let first = self.length() == 0 && !bytes.is_empty();
        self.head = first.then(|| bytes[..bytes.len().min(sniff::HEAD)].to_vec());
        self.partial.grow(count);
        self.write_out();
        match &mut self.reservation {
            Some(reservation) => reservation.spend(count),
            None => self.look_at_the_room(count)?,
        }
        self.hasher.feed(buffer).map_err(|error| self.hash_failed(error))?;
        self.report(false);
        Ok(())
    }

    /// Has the kernel begin to write to the disk what has come, where somebody will wait for it.
    fn write_out(&mut self) {
        let length = self.length();
        if self.transfer.write_out && length.saturating_sub(self.written_out) >= WRITE_OUT {
            // What fails here fails for who waits for the disk, too.
            let _ = write_out::begin(self.partial.file(), &(self.written_out..length));
            self.written_out = length;
        }
    }

    /// The first bytes, right after they came.
    pub(super) fn begins_with(&self) -> Option<&[u8]> {
        self.head.as_deref()
    }

    pub(super) fn digest_so_far(&mut self) -> Result<Digest, ImageError> {
        self.hasher.digest_so_far().map_err(|error| self.hash_failed(error))
    }

    pub(super) fn finish(mut self) -> Result<Digest, ImageError> {
        self.report(true);
        let path = self.partial.path();
        let cancel = self.transfer.cancel;
        self.hasher.finish().map_err(|error| {
            if cancel.is_cancelled() {
                ImageError::Cancelled
            } else {
                ImageError::io(&path, "hash", error)
            }
        })
    }

    fn look_at_the_room(&mut self, count: u64) -> Result<(), ImageError> {
        self.unmeasured += count;
        if self.unmeasured >= LOOK {
            self.unmeasured = 0;
            if let Some(available) = is_nearly_full(self.partial.dir()) {
                let error = self.disk_full(available);
                self.give_room_back();
                return Err(error);
            }
        }
        Ok(())
    }

    fn write_failed(&mut self, error: io::Error) -> ImageError {
        if !matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            return ImageError::io(&self.partial.path(), "write", error);
        }
        let available = self.partial.dir().space().map_or(0, |(available, _)| available);
        let error = self.disk_full(available);
        self.give_room_back();
        error
    }

    /// A disk without any room is worse for everybody than bytes that come again.
    fn give_room_back(&mut self) {
        if let Err(error) = self.partial.restart() {
            log::debug!("{error}");
        }
    }

    fn disk_full(&self, available: u64) -> ImageError {
        let missing = self.total().map(|total| total.saturating_sub(self.length()));
        ImageError::DiskFull { path: self.partial.path(), needed: missing.unwrap_or(1), available }
    }

    fn hash_failed(&mut self, error: io::Error) -> ImageError {
        if self.transfer.cancel.is_cancelled() {
            return ImageError::Cancelled;
        }
        let error = ImageError::io(&self.partial.path(), "hash", error);
        // What cannot be read once would stop every later transfer, too.
        self.give_room_back();
        error
    }

    fn is_report_due(&self) -> bool {
        self.reported.is_none_or(|last| last.elapsed() >= REPORT)
    }

    fn report(&mut self, always: bool) {
        if always || self.is_report_due() {
            self.reported = Some(Instant::now());
            let event = Event::Progress { done: self.length(), total: self.total() };
            self.transfer.options.emit(self.transfer.asset.kind, &event);
        }
    }
}

/// Begins to hash what is in the file.
fn start_hasher(transfer: &Transfer<'_>, partial: &Partial<'_>) -> Result<Hasher, ImageError> {
    Hasher::start(partial.file(), partial.length(), transfer.cancel)
        .map_err(|error| ImageError::io(&partial.path(), "hash", error))
}
