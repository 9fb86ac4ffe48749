//! [`Wide`]: the bytes of one file over several connections, as one stream in order.
//!
//! It begins as the one connection that the transfer has opened. Where that turns out to be what
//! everybody waits for ([`watch`]), others fetch chunks ahead of it ([`queue`]), and the bytes are
//! handed on in order all the same: hashing, writing, resuming and giving up know nothing of it.
//! Whatever goes wrong with the others, the bytes come over one connection in the end.

mod host_limit;
mod queue;
mod watch;
mod worker;

use std::io::{self, Read};
use std::sync::Arc;
use std::thread::{Builder, Scope};
use std::time::{Duration, Instant};

use self::host_limit::Permit;
use self::queue::{Front, Queue};
use self::watch::Watch;
use self::worker::Job;
use super::Transfer;
use crate::source::{Opened, Parts};

/// A file of which less is left is not worth more connections.
const WORTH: u64 = 16 << 20;

/// What chunks may take in memory, in bytes, for one file.
const MEMORY: u64 = 8 << 20;

/// The sizes of a chunk, in bytes: the larger, the less it matters how long its connection takes
/// to be made, and the fewer there may be.
const CHUNKS: [u64; 2] = [1 << 20, 2 << 20];

/// Chunks that the first connection goes on to fetch after others were opened: by then it shows
/// whether they are let in.
const LEAD: u64 = 2;

/// Connections that are opened first; the rest follows when they have helped.
const FIRST_STEP: usize = 3;

/// The bytes of one file, in order.
pub(super) struct Wide<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    /// What a connection needs to know to fetch a part of it.
    job: Job<'env>,
    /// Where the next byte belongs.
    position: u64,
    /// The connection that brings the bytes at `position`, if one does.
    stream: Option<Box<dyn Read + Send>>,
    watch: Watch,
    stage: Stage,
    /// What the other connections are to fetch.
    queue: Option<Arc<Queue>>,
    /// The chunk at `position`, and how much of it has been read.
    chunk: (Vec<u8>, usize),
    /// Whether bytes of several answers were put together.
    is_mixed: bool,
}

/// How many connections there are, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// One, that is looked at.
    One,
    /// A few, that are looked at.
    Few,
    /// It stays as it is.
    Settled,
}

/// Whether more connections may be opened for this answer: its parts can be asked for, and told
/// from those of another version.
pub(super) fn is_possible(transfer: &Transfer<'_>, opened: &Opened, position: u64) -> bool {
    let vouched = transfer.asset.digest.is_some() || opened.validators.if_range.is_some();
    let left = opened.total.map_or(0, |total| total.saturating_sub(position));
    // A cache on the way that was out of date is out of date for parts, too.
    let offered = opened.parts == Parts::Offered;
    transfer.connections > 1 && !transfer.no_cache && offered && vouched && left >= WORTH
}

impl<'scope, 'env> Wide<'scope, 'env> {
    /// Begins with the body of an answer, whose head came that long after it was asked for.
    pub(super) fn new(
        scope: &'scope Scope<'scope, 'env>,
        transfer: &'env Transfer<'env>,
        opened: Opened,
        position: u64,
        first_byte: Duration,
    ) -> Self {
        Self {
            scope,
            job: Job::new(transfer, opened.total.unwrap_or(position), opened.validators),
            position,
            stream: Some(opened.body),
            watch: Watch::new(first_byte),
            stage: Stage::One,
            queue: None,
            chunk: (Vec::new(), 0),
            is_mixed: false,
        }
    }

    /// Whether bytes of several answers were put together.
    pub(super) fn is_mixed(&self) -> bool {
        self.is_mixed
    }

    fn left(&self) -> u64 {
        self.job.total() - self.position
    }

    /// Opens more connections, or lets them end, by what the last look has shown.
    fn look(&mut self) {
        self.watch.count(self.job.take_received(), Duration::ZERO);
        match (self.stage, &self.queue) {
            (Stage::One, _) if self.left() >= WORTH => {
                if let Some(chunk) = CHUNKS.into_iter().find(|&size| self.watch.wants_more(size)) {
                    self.widen(chunk);
                }
            }
            (Stage::Few, Some(queue)) => {
                self.stage = Stage::Settled;
                if self.watch.has_gained() {
                    self.open(usize::from(self.job.connections()).saturating_sub(1 + FIRST_STEP));
                } else {
                    log::debug!("more connections bring no more");
                    queue.end();
                }
            }
            _ => self.stage = Stage::Settled,
        }
        self.watch.step();
    }

    /// Opens the first connections beside the one that there is.
    fn widen(&mut self, chunk: u64) {
        log::debug!("one connection is slow: opening more, for chunks of {chunk} bytes");
        let begin = self.job.total().min(self.position + LEAD * chunk);
        self.queue = Some(Arc::new(Queue::new(begin..self.job.total(), chunk, MEMORY / chunk)));
        self.stage = Stage::Few;
        self.open(FIRST_STEP.min(usize::from(self.job.connections()) - 1));
    }

    /// Opens that many connections, as far as the host may be asked for them.
    fn open(&self, count: usize) {
        let Some(queue) = &self.queue else { return };
        for _ in 0..count {
            let Some(permit) = Permit::take(&self.job.host()) else { return };
            let (job, worker) = (self.job.clone(), queue.enter());
            let thread = Builder::new().name("smolvm-part".to_owned());
            let work = move || {
                job.work(&worker);
                drop(permit);
            };
            // Where there is no thread to be had, there are fewer connections.
            if thread.spawn_scoped(self.scope, work).is_err() {
                return;
            }
        }
    }

    /// Reads from the one connection, as far as its bytes are wanted.
    fn read_stream(&mut self, buffer: &mut [u8], end: u64) -> io::Result<usize> {
        let Some(stream) = &mut self.stream else { return Ok(0) };
        let wanted = usize::try_from(end - self.position).unwrap_or(usize::MAX);
        let wanted = wanted.min(buffer.len());
        let started = Instant::now();
        let count = stream.read(&mut buffer[..wanted])?;
        self.watch.count(count as u64, started.elapsed());
        Ok(count)
    }

    /// The one connection has come to what others fetch. Another one takes its place among them;
    /// where they have got nowhere, it goes on.
    fn leave_stream(&mut self, queue: &Queue) {
        if queue.is_abandoned() {
            self.settle_for_one();
        } else {
            self.stream = None;
            self.is_mixed = true;
            self.open(1);
        }
    }

    /// Has the next chunk, or a connection that goes on from here alone.
    fn next_chunk(&mut self, queue: &Queue) -> io::Result<()> {
        match queue.take(queue.chunk_at(self.position), self.job.cancel()) {
            Front::Arrived(bytes) => self.chunk = (bytes, 0),
            Front::Cancelled => return Err(io::Error::other("cancelled")),
            Front::Abandoned => {
                self.settle_for_one();
                self.stream = Some(self.job.open_rest(self.position)?);
            }
        }
        Ok(())
    }

    fn settle_for_one(&mut self) {
        self.queue = None;
        self.stage = Stage::Settled;
    }

    fn read_chunk(&mut self, buffer: &mut [u8]) -> usize {
        let (bytes, taken) = &mut self.chunk;
        let rest = &bytes[*taken..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        *taken += count;
        if *taken == bytes.len() {
            let memory = std::mem::take(&mut self.chunk).0;
            if let Some(queue) = &self.queue {
                queue.recycle(memory);
            }
        }
        count
    }
}

impl Read for Wide<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stage != Stage::Settled && self.watch.is_due() {
            self.look();
        }
        while self.left() > 0 {
            let count = if self.chunk.0.is_empty() {
                let queue = self.queue.clone();
                let end = queue.as_ref().map_or(self.job.total(), |queue| queue.begin());
                match (queue, &self.stream) {
                    (_, Some(_)) if self.position < end => self.read_stream(buffer, end)?,
                    (Some(queue), Some(_)) => {
                        self.leave_stream(&queue);
                        continue;
                    }
                    (Some(queue), None) => {
                        self.next_chunk(&queue)?;
                        continue;
                    }
                    (None, _) => 0,
                }
            } else {
                self.read_chunk(buffer)
            };
            self.position += count as u64;
            return Ok(count);
        }
        Ok(0)
    }
}

impl Drop for Wide<'_, '_> {
    fn drop(&mut self) {
        self.job.cancel().cancel();
        if let Some(queue) = &self.queue {
            queue.end();
        }
    }
}
