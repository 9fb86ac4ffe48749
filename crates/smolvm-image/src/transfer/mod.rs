//! The byte mover: one asset, from its source into a partial file, hashed on the way, retried
//! from where it broke.
//!
//! [`Transfer::run`] is the story. One thread receives and writes ([`sink`]), another hashes
//! ([`hasher`]); [`resume`] decides where to begin, [`attempts`] when to give up. Where one
//! connection is too slow, [`wide`] makes one stream of several.

mod attempts;
mod error;
mod hasher;
mod resume;
mod sink;
mod space;
mod wide;

use std::io;
use std::time::{Duration, Instant};

pub use attempts::RetryPolicy;
pub use error::TransferError;
pub(crate) use space::Space;
pub(crate) use wide::Spare;

use self::attempts::Attempts;
use self::resume::{Start, decide};
use self::sink::{Incoming, Sink};
use self::wide::Wide;
use crate::cache::{Note, Partial, boot_id};
use crate::cancel::CancelToken;
use crate::digest::Digest;
use crate::error::ImageError;
use crate::http::{Client, HttpError};
use crate::image::Asset;
use crate::options::FetchOptions;
use crate::progress::Event;
use crate::sniff;
use crate::source::{self, Answer, Ask, Failure, Opened, Retry, Validators};

/// What a transfer needs to know.
#[derive(Clone, Copy)]
pub(crate) struct Transfer<'a> {
    pub(crate) client: &'a Client,
    pub(crate) asset: &'a Asset,
    pub(crate) policy: &'a RetryPolicy,
    /// No asset is larger, in bytes.
    pub(crate) max_size: u64,
    pub(crate) space: &'a Space,
    pub(crate) options: &'a FetchOptions,
    pub(crate) cancel: &'a CancelToken,
    /// Answer [`Outcome::Unchanged`] if the source still has these.
    pub(crate) unless: Option<&'a Validators>,
    /// Ask caches on the way to ask the server.
    pub(crate) no_cache: bool,
    /// Connections that there may be at once.
    pub(crate) connections: u8,
    /// Connections that the other files of the image do not need any more.
    pub(crate) spare: &'a Spare,
    /// Whether the disk will be waited for, so that writing to it should begin early.
    pub(crate) write_out: bool,
}

/// How a transfer ended well.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The partial file is whole, as far as its source can tell.
    Whole {
        digest: Digest,
        /// Bytes that came in this run.
        received: u64,
        /// Whether another try may bring other bytes: they were put together from several
        /// answers, or are from a cache on the way.
        doubtful: bool,
    },
    /// The source has what the caller named.
    Unchanged,
}

/// How a transfer ended otherwise. The bytes so far are kept where they can be of use.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The disk, or the cancel token.
    Image(ImageError),
    /// The source, for good.
    Failed { attempts: u32, error: TransferError },
    /// Without a pin, this is taken for no image.
    NotAnImage(&'static str),
}

impl From<ImageError> for Stop {
    fn from(error: ImageError) -> Self {
        Self::Image(error)
    }
}

/// What the attempts of one transfer leave to the next one.
#[derive(Default)]
struct Course {
    /// Once a part did not fit, the next attempt is for everything.
    from_scratch: bool,
    /// See [`Outcome::Whole`].
    doubtful: bool,
    /// Where a body without an announced size ended last, and the digest up to there.
    last_end: Option<(u64, Digest)>,
}

/// How one attempt ended.
enum Step {
    /// The source has no more.
    Whole,
    /// It has come to what was there already.
    Part,
    Unchanged,
}

/// Why one attempt ended before the end.
enum Break {
    /// The next attempt may do better.
    Failure(Failure),
    Stop(Stop),
}

impl From<ImageError> for Break {
    fn from(error: ImageError) -> Self {
        Self::Stop(error.into())
    }
}

impl Transfer<'_> {
    /// Moves what is missing in a partial file.
    pub(crate) fn run(&self, partial: &mut Partial<'_>) -> Result<Outcome, Stop> {
        let started_with = partial.bytes();
        let mut sink = Sink::new(self, partial)?;
        let mut attempts = Attempts::new(self.policy);
        let mut course = Course { doubtful: started_with > 0, ..Course::default() };
        loop {
            match self.attempt(&mut sink, &mut course) {
                Ok(Step::Unchanged) => return Ok(Outcome::Unchanged),
                Ok(Step::Whole) => break,
                Ok(Step::Part) => {}
                Err(Break::Stop(stop)) => return Err(stop),
                Err(Break::Failure(failure)) => {
                    log::debug!("{} of {}: {}", self.asset.kind, self.asset.url, failure.error);
                    let pause = attempts.after(failure, sink.bytes())?;
                    self.options.emit(
                        self.asset.kind,
                        &Event::Retrying {
                            attempt: pause.attempt,
                            pause: pause.duration,
                            reason: pause.reason,
                        },
                    );
                    if !self.cancel.sleep(pause.duration) {
                        return Err(ImageError::Cancelled.into());
                    }
                }
            }
        }
        let received = sink.received();
        let digest = sink.finish()?;
        if self.asset.digest.is_none()
            && let Some(content) = sniff::not_an_image(&partial.head())
        {
            return Err(Stop::NotAnImage(content));
        }
        Ok(Outcome::Whole { digest, received, doubtful: course.doubtful })
    }

    fn attempt(&self, sink: &mut Sink<'_, '_>, course: &mut Course) -> Result<Step, Break> {
        sink.adopt()?;
        let start = match decide(sink.note(), sink.length(), self.asset, boot_id()) {
            // Asked whether there is something newer, what is there is not the answer.
            Start::Whole if self.unless.is_some() => Start::Fresh,
            Start::Whole => return Ok(Step::Whole),
            Start::Resume { .. } if course.from_scratch => Start::Fresh,
            start => start,
        };
        // Where nobody said how much there is, only the pin can tell that nothing is missing.
        let unmeasured = matches!(start, Start::Resume { .. }) && sink.total().is_none();
        if unmeasured && self.asset.digest == Some(sink.digest_so_far()?) {
            return Ok(Step::Whole);
        }
        let mut ask = Ask { unless: self.unless, no_cache: self.no_cache, ..Ask::default() };
        if let Start::Resume { if_range } = &start {
            ask.offset = sink.length();
            ask.end = sink.next_part();
            ask.if_range = if_range.as_deref();
            ask.total = sink.total();
        }
        let asked = Instant::now();
        let answer = source::open(self.client, &self.asset.url, &ask, self.cancel)
            .map_err(|failure| self.cancelled_or(failure))?;
        match answer {
            Answer::Unchanged => Ok(Step::Unchanged),
            Answer::Complete => {
                // Where it announced another size before, only the pin can tell which one to trust.
                let contradicts = sink.total().is_some_and(|total| total != sink.length());
                if contradicts && self.asset.digest != Some(sink.digest_so_far()?) {
                    return Err(start_over(course));
                }
                course.doubtful = true;
                self.whole_or_retry(sink, true, course)
            }
            Answer::StartOver => Err(start_over(course)),
            Answer::Body(opened) => {
                course.doubtful = opened.from_cache || opened.continues;
                self.begin(sink, &opened)?;
                self.receive_all(sink, opened, asked.elapsed(), course)
            }
        }
    }

    /// Sees that there is room for the bytes to come, and notes what they are of.
    fn begin(&self, sink: &mut Sink<'_, '_>, opened: &Opened) -> Result<(), Break> {
        if opened.total.is_some_and(|total| total > self.max_size) {
            return Err(self.too_large());
        }
        if !opened.continues {
            sink.restart()?;
        }
        sink.reserve(opened.total)?;
        sink.write_note(Note {
            url_sha256: self.asset.url.fingerprint(),
            total: opened.total,
            if_range: opened.validators.if_range.clone(),
            etag: opened.validators.etag.clone(),
            last_modified: opened.validators.last_modified.clone(),
            boot_id: boot_id().to_owned(),
        })?;
        Ok(())
    }

    /// Receives a body whose head came that long after it was asked for: over more connections
    /// where they would help.
    fn receive_all(
        &self,
        sink: &mut Sink<'_, '_>,
        mut opened: Opened,
        first_byte: Duration,
        course: &mut Course,
    ) -> Result<Step, Break> {
        let position = sink.length();
        if !wide::is_possible(self, &opened, sink.bytes()) {
            return self.receive(sink, &mut opened.body, opened.ends_surely, course);
        }
        std::thread::scope(|scope| {
            let ends_surely = opened.ends_surely;
            let mut body = Wide::new(scope, self, opened, position, first_byte);
            let received = self.receive(sink, &mut body, ends_surely, course);
            course.doubtful |= body.is_mixed();
            sink.count_received(body.received_beside());
            received
        })
    }

    fn receive(
        &self,
        sink: &mut Sink<'_, '_>,
        body: &mut impl Incoming,
        ends_surely: bool,
        course: &mut Course,
    ) -> Result<Step, Break> {
        loop {
            // Reading from the network looks at the token by itself, reading a file does not.
            if self.cancel.is_cancelled() {
                return Err(Break::Stop(ImageError::Cancelled.into()));
            }
            if !body.is_ready(sink)? {
                return Ok(Step::Part);
            }
            if sink.total().is_some_and(|total| sink.length() >= total) {
                return Ok(Step::Whole);
            }
            let read = sink.receive_from(body)?;
            // The rest of an error page need not be waited for.
            let begins = sink.begins_with().filter(|_| self.asset.digest.is_none());
            if let Some(content) = begins.and_then(sniff::not_an_image) {
                return Err(Break::Stop(Stop::NotAnImage(content)));
            }
            if sink.length() > self.max_size {
                return Err(self.too_large());
            }
            match (read, sink.total()) {
                (_, Some(total)) if sink.length() >= total => return Ok(Step::Whole),
                (Ok(true), _) => {}
                (Ok(false), Some(_)) if sink.is_at_part() => return Ok(Step::Part),
                (Ok(false), Some(total)) => {
                    let error = TransferError::Short { received: sink.length(), total };
                    return Err(Break::Failure(Failure { error, retry: Retry::Yes }));
                }
                (Ok(false), None) => return self.whole_or_retry(sink, ends_surely, course),
                (Err(error), _) => return Err(self.broken(error)),
            }
        }
    }

    /// The source has no more, and never said how much there is. Where its word is not enough,
    /// the pin decides; without one nobody can tell a whole file from a broken connection.
    fn whole_or_retry(
        &self,
        sink: &mut Sink<'_, '_>,
        sure: bool,
        course: &mut Course,
    ) -> Result<Step, Break> {
        let Some(pin) = self.asset.digest else {
            return if sure {
                Ok(Step::Whole)
            } else {
                let error = TransferError::NoLength;
                Err(Break::Failure(Failure { error, retry: Retry::Never }))
            };
        };
        let end = (sink.length(), sink.digest_so_far()?);
        // What ends twice in the same place ends there.
        if sure || end.1 == pin || course.last_end == Some(end) {
            return Ok(Step::Whole);
        }
        course.last_end = Some(end);
        let error = TransferError::NotWhole { received: end.0, digest: end.1 };
        Err(Break::Failure(Failure { error, retry: Retry::Yes }))
    }

    fn too_large(&self) -> Break {
        let error = TransferError::TooLarge { limit: self.max_size };
        Break::Failure(Failure { error, retry: Retry::Never })
    }

    fn cancelled_or(&self, failure: Failure) -> Break {
        if self.cancel.is_cancelled() {
            Break::Stop(ImageError::Cancelled.into())
        } else {
            Break::Failure(failure)
        }
    }

    /// What an error in the middle of a body means.
    fn broken(&self, error: io::Error) -> Break {
        let failure = match error.downcast::<HttpError>() {
            Ok(error) => {
                let retry = if error.is_retryable() { Retry::Yes } else { Retry::Never };
                Failure { error: TransferError::connection(&self.asset.url, error), retry }
            }
            Err(error) => match error.downcast::<TransferError>() {
                Ok(error) => Failure { error, retry: Retry::Yes },
                Err(source) => Failure { error: TransferError::Body(source), retry: Retry::Yes },
            },
        };
        self.cancelled_or(failure)
    }
}

/// Whether a later transfer could go on from what is in a partial file.
pub(crate) fn is_of_use(partial: &Partial<'_>, asset: &Asset) -> bool {
    decide(partial.note(), partial.length(), asset, boot_id()) != Start::Fresh
}

/// What was sent cannot follow what is there.
fn start_over(course: &mut Course) -> Break {
    course.from_scratch = true;
    Break::Failure(Failure { error: TransferError::WrongPart, retry: Retry::After(Duration::ZERO) })
}
