//! [`Wide`]: the bytes of one file over several connections.
//!
//! It begins as the one connection that the transfer has opened. Where that turns out to be what
//! everybody waits for ([`watch`]), others fetch pieces ahead of it ([`plan`]) and write them where
//! they belong. What they have written is hashed in order all the same, and stays where the
//! transfer breaks off: giving up and going on know nothing of it. Whatever goes wrong with the
//! others, the bytes come over one connection in the end.

mod host_limit;
mod plan;
mod spare;
mod watch;
mod worker;

use std::io::{self, Read};
use std::sync::Arc;
use std::thread::{Builder, Scope};
use std::time::{Duration, Instant};

use self::host_limit::Permit;
use self::plan::{Front, Plan};
use self::watch::Watch;
use self::worker::Job;
use super::Transfer;
use super::sink::{Incoming, NotWritten, Sink};
use crate::cache::Parts;
use crate::error::ImageError;
use crate::source::{self, Opened};

pub(crate) use self::spare::Spare;

/// A file of which less is left is not worth more connections.
const WORTH: u64 = 16 << 20;

/// A piece that a connection would fetch next, in bytes: what getting to its first byte is held
/// against.
const PIECE: u64 = 2 << 20;

/// Bytes that the first connection goes on to fetch after others were opened: by then it shows
/// whether they are let in.
const LEAD: u64 = 2 << 20;

/// Connections that are opened first; the rest follows when they have helped.
const FIRST_STEP: usize = 3;

/// The bytes of one file: some come by reading, others are in the file already when it is asked.
pub(super) struct Wide<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    /// What a connection needs to know to fetch a part of it.
    job: Job<'env>,
    /// Where the next byte belongs.
    position: u64,
    /// The connection that brings the bytes at `position`, if one does.
    stream: Option<Box<dyn Read + Send>>,
    watch: Watch,
    /// What the watch has counted of the bytes that others brought.
    counted: u64,
    stage: Stage,
    /// What the other connections are to fetch.
    plan: Option<Arc<Plan>>,
    /// Whether bytes of several answers were put together.
    is_mixed: bool,
}

/// How many connections there are, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// One, that is looked at.
    One,
    /// One, and there are to be more.
    Widening,
    /// A few, that are looked at.
    Few,
    /// As many as a file has of its own. There may be others to spare.
    Full,
    /// Some that others did not need any more; they are looked at.
    Grown,
    /// It stays as it is.
    Settled,
}

/// Whether more connections may be opened for this answer: its parts can be asked for, and told
/// from those of another version. There are so many `bytes` already.
pub(super) fn is_possible(transfer: &Transfer<'_>, opened: &Opened, bytes: u64) -> bool {
    let vouched = transfer.asset.digest.is_some() || opened.validators.if_range.is_some();
    let left = opened.total.map_or(0, |total| total.saturating_sub(bytes));
    // A cache on the way that was out of date is out of date for parts, too.
    let offered = opened.parts == source::Parts::Offered;
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
            counted: 0,
            stage: Stage::One,
            plan: None,
            is_mixed: false,
        }
    }

    /// Whether bytes of several answers were put together.
    pub(super) fn is_mixed(&self) -> bool {
        self.is_mixed
    }

    /// Bytes that came over other connections than the first.
    pub(super) fn received_beside(&self) -> u64 {
        self.job.received()
    }

    fn left(&self) -> u64 {
        self.job.total() - self.position
    }

    /// Opens more connections, or lets them end, by what the last look has shown.
    fn look(&mut self) {
        let received = self.job.received();
        self.watch.count(received - self.counted, Duration::ZERO);
        self.counted = received;
        match (self.stage, &self.plan) {
            (Stage::One, _) if self.left() >= WORTH => {
                if self.watch.wants_more(PIECE) {
                    self.stage = Stage::Widening;
                }
            }
            (Stage::Few, Some(plan)) => {
                if self.watch.has_gained() {
                    self.open(self.own().saturating_sub(FIRST_STEP));
                    self.stage = Stage::Full;
                } else if !self.watch.has_looked_enough() {
                    // They may only have been let in a moment ago.
                    return;
                } else {
                    log::debug!("more connections bring no more");
                    plan.end();
                    self.stage = Stage::Settled;
                }
            }
            (Stage::Full, Some(_)) => {
                let spare = self.job.transfer().spare.take();
                if spare > 0 {
                    self.open(spare);
                    self.stage = Stage::Grown;
                }
            }
            (Stage::Grown, Some(_)) if self.watch.has_gained() => self.stage = Stage::Full,
            (Stage::Grown, Some(_)) if !self.watch.has_looked_enough() => return,
            (Stage::Widening, _) => {}
            _ => self.stage = Stage::Settled,
        }
        self.watch.step();
    }

    /// Connections beside the first that this file may have, whatever others do.
    fn own(&self) -> usize {
        usize::from(self.job.transfer().connections) - 1
    }

    /// Opens the first connections beside the one that there is.
    fn widen(&mut self, parts: Arc<Parts>) {
        // Where the way to the first byte is long, pieces are as large as what comes meanwhile.
        let smallest = self.watch.bytes_before_first();
        let begin = self.job.total().min(self.position + LEAD).next_multiple_of(LEAD / 2);
        let begin = begin.min(self.job.total());
        // What is there of an earlier transfer is not fetched over the first connection either.
        let begin = parts.missing(self.position..begin).first().map_or(begin, |gap| gap.end);
        log::debug!("one connection is slow: opening more, from byte {begin} on");
        self.plan = Some(Arc::new(Plan::new(parts, begin..self.job.total(), smallest)));
        self.stage = Stage::Few;
        self.is_mixed = true;
        self.open(FIRST_STEP.min(self.own()));
    }

    /// Opens that many connections, as far as the host may be asked for them.
    fn open(&self, count: usize) {
        let Some(plan) = &self.plan else { return };
        for _ in 0..count {
            let Some(permit) = Permit::take(&self.job.host()) else { return };
            let (job, worker) = (self.job.clone(), plan.enter());
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
        self.position += count as u64;
        Ok(count)
    }

    /// The one connection has come to what others fetch. Another one takes its place among them;
    /// where they have got nowhere, it goes on.
    fn leave_stream(&mut self, plan: &Plan) {
        if plan.is_abandoned() {
            self.settle_for_one();
        } else {
            self.stream = None;
            self.open(1);
        }
    }

    /// Waits for the next byte to be in the file, or has a connection that brings it alone.
    fn wait(&mut self, plan: &Plan) -> io::Result<()> {
        match plan.wait_for(self.position, self.job.cancel()) {
            Front::There => Err(io::ErrorKind::WouldBlock.into()),
            Front::Cancelled => Err(io::Error::other("cancelled")),
            Front::Failed(error) => Err(io::Error::other(NotWritten(error))),
            Front::Abandoned => {
                self.settle_for_one();
                let gap = plan.parts().missing(self.position..self.job.total());
                let end = gap.first().map_or(self.job.total(), |gap| gap.end);
                self.stream = Some(self.job.open_alone(self.position, end)?);
                Ok(())
            }
        }
    }

    fn settle_for_one(&mut self) {
        self.plan = None;
        self.stage = Stage::Settled;
    }
}

impl Incoming for Wide<'_, '_> {
    fn is_ready(&mut self, sink: &mut Sink<'_, '_>) -> Result<bool, ImageError> {
        if self.plan.is_some() {
            sink.adopt()?;
        }
        self.position = sink.length();
        if self.stage == Stage::Widening {
            let parts = sink.write_in_parts(self.job.total())?;
            self.widen(parts);
        }
        Ok(self.plan.is_some() || !sink.is_at_part())
    }
}

/// [`io::ErrorKind::WouldBlock`] says that the next byte is in the file already.
impl Read for Wide<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stage != Stage::Settled && self.watch.is_due() {
            self.look();
        }
        while self.left() > 0 {
            match (self.plan.clone(), &self.stream) {
                (None, _) => return self.read_stream(buffer, self.job.total()),
                (Some(plan), Some(_)) if self.position < plan.begin() => {
                    return self.read_stream(buffer, plan.begin());
                }
                (Some(plan), Some(_)) => self.leave_stream(&plan),
                (Some(plan), None) => self.wait(&plan)?,
            }
        }
        Ok(0)
    }
}

impl Drop for Wide<'_, '_> {
    fn drop(&mut self) {
        self.job.cancel().cancel();
        if let Some(plan) = &self.plan {
            plan.end();
        }
    }
}
