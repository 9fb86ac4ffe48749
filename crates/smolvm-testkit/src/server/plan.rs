//! From a request, an entity and faults to what exactly goes on the wire.

use std::time::Duration;

use super::answer::{Answer, bounds, has_body};
use super::entity::Entity;
use super::fault::Fault;
use super::gate::Gate;
use crate::headers::{Head, Headers};

const ERROR_PAGE: &str = "<!DOCTYPE html>\n<html><head><title>Sign in</title></head>\n\
    <body><h1>This network asks you to sign in first</h1></body></html>\n";

/// Everything about one response, decided before its first byte is sent.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) answer: Answer,
    pub(super) framing: Framing,
    /// The values of the `Content-Length` fields to send.
    pub(super) lengths: Vec<String>,
    pub(super) keep_alive: bool,
    pub(super) endless: bool,
    /// Bytes of noise to send after the body.
    pub(super) extra_bytes: u64,
    pub(super) bytes_per_second: Option<u64>,
    pub(super) openings: Vec<Opening>,
    /// What happens at which byte of the body, in the order of those bytes.
    pub(super) events: Vec<(u64, Event)>,
}

/// How the bytes of the body are laid out on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Plain,
    Chunked,
}

/// What happens before the body.
#[derive(Debug)]
pub(super) enum Opening {
    Wait(Duration),
    Interim(u16),
    CloseUnanswered,
    StallInHead,
    CutInHead,
    EndlessHead,
    Raw(Vec<u8>),
}

/// What happens at one byte of the body.
#[derive(Debug)]
pub(super) enum Event {
    Stall(Duration),
    Hold(Gate),
    Cut,
    Reset,
}

impl From<Answer> for Plan {
    /// Sends the answer as it is, and keeps the connection.
    fn from(answer: Answer) -> Self {
        let lengths =
            if has_body(answer.status) { vec![answer.body.len().to_string()] } else { Vec::new() };
        Self {
            answer,
            framing: Framing::Plain,
            lengths,
            keep_alive: true,
            endless: false,
            extra_bytes: 0,
            bytes_per_second: None,
            openings: Vec::new(),
            events: Vec::new(),
        }
    }
}

impl Plan {
    pub(super) fn new(head: &Head, entity: &Entity, faults: &[Fault]) -> Self {
        let mut entity = entity.clone();
        let mut request = head.headers.clone();
        distort_entity(&mut entity, faults);
        distort_request(&mut request, &entity, faults);
        let mut answer = Answer::to(&request, &entity);
        replace_answer(&mut answer, head.word(1), faults);
        distort_headers(&mut answer, faults);

        let mut plan = Self::from(answer);
        plan.distort_framing(faults);
        plan.schedule(faults);
        plan
    }

    /// Keeps the head as it is and sends nothing after it.
    pub(super) fn omit_body(&mut self) {
        self.answer.body = Entity::new(Vec::new().into()).part(0..0);
    }

    fn distort_framing(&mut self, faults: &[Fault]) {
        for fault in faults {
            match fault {
                Fault::ContentLength(value) => self.lengths = vec![value.clone()],
                Fault::RepeatContentLength(value) => self.lengths.push(value.clone()),
                Fault::ExtraBytes(count) => self.extra_bytes = *count,
                Fault::NoContentLength => {
                    self.lengths.clear();
                    self.answer.headers.set("Connection", "close");
                }
                Fault::Chunked => {
                    self.framing = Framing::Chunked;
                    self.lengths.clear();
                    // The last chunk is as good an end as a length.
                    continue;
                }
                Fault::EndlessBody => {
                    self.endless = true;
                    self.lengths.clear();
                }
                _ => continue,
            }
            // Nobody can tell where the next answer on this connection would start.
            self.keep_alive = false;
        }
    }

    fn schedule(&mut self, faults: &[Fault]) {
        for fault in faults {
            match fault {
                Fault::CutAt(at) => self.events.push((*at, Event::Cut)),
                Fault::ResetAt(at) => self.events.push((*at, Event::Reset)),
                Fault::StallAt(at, time) => self.events.push((*at, Event::Stall(*time))),
                Fault::HoldAt(at, gate) => self.events.push((*at, Event::Hold(gate.clone()))),
                Fault::Throttle { bytes_per_second } => {
                    self.bytes_per_second = Some(*bytes_per_second);
                }
                Fault::CloseUnanswered => self.openings.push(Opening::CloseUnanswered),
                Fault::SlowHead(time) => self.openings.push(Opening::Wait(*time)),
                Fault::StallInHead => self.openings.push(Opening::StallInHead),
                Fault::CutInHead => self.openings.push(Opening::CutInHead),
                Fault::EndlessHead => self.openings.push(Opening::EndlessHead),
                Fault::RawHead(bytes) => self.openings.push(Opening::Raw(bytes.clone())),
                Fault::Interim(status) => self.openings.push(Opening::Interim(*status)),
                _ => {}
            }
        }
        // Waits at a byte come before the end at the same byte, whatever the order of the faults.
        self.events.sort_by_key(|(at, event)| (*at, matches!(event, Event::Cut | Event::Reset)));
    }
}

fn distort_entity(entity: &mut Entity, faults: &[Fault]) {
    for fault in faults {
        match fault {
            Fault::Replaced { etag, bytes } => {
                entity.bytes = bytes.clone();
                entity.headers.set("ETag", etag);
                entity.headers.remove("Last-Modified");
            }
            Fault::ErrorPage => {
                *entity = Entity::new(ERROR_PAGE.as_bytes().into());
                entity.headers.set("Content-Type", "text/html");
            }
            Fault::FlipByteAt(offset) => entity.flips.push(*offset),
            _ => {}
        }
    }
    // Last: it is the distorted entity that is gzipped.
    if faults.iter().any(|fault| matches!(fault, Fault::Gzip)) {
        entity.gzip();
    }
}

/// A server that gets ranges wrong is one that answers another request rightly.
fn distort_request(request: &mut Headers, entity: &Entity, faults: &[Fault]) {
    for fault in faults {
        match fault {
            Fault::IgnoreRange | Fault::ErrorPage => request.remove("Range"),
            Fault::IgnoreIfRange => request.remove("If-Range"),
            Fault::WrongRange => {
                if let Some((first, last)) = request.get("Range").and_then(bounds) {
                    let shift = |at: u64| {
                        if first + 1 < entity.len() { at + 1 } else { at.saturating_sub(1) }
                    };
                    let last = last.map(|last| shift(last).to_string()).unwrap_or_default();
                    request.set("Range", &format!("bytes={}-{last}", shift(first)));
                }
            }
            Fault::RangeNotSatisfiable if request.get("Range").is_some() => {
                request.remove("If-Range");
                request.set("Range", &format!("bytes={}-", entity.len()));
            }
            _ => {}
        }
    }
}

fn replace_answer(answer: &mut Answer, target: &str, faults: &[Fault]) {
    let mut replaced = false;
    for fault in faults {
        match fault {
            Fault::RedirectTo(location) => *answer = Answer::redirect(location),
            Fault::RedirectLoop => *answer = Answer::redirect(&next_hop(target)),
            Fault::RetryAfter { status, value } => {
                *answer = Answer::text(*status).with("Retry-After", value);
            }
            Fault::ErrorPage => {}
            _ => continue,
        }
        replaced = true;
    }
    for fault in faults {
        match fault {
            Fault::Status(status) if replaced => answer.status = *status,
            Fault::Status(status) => *answer = Answer::text(*status),
            _ => {}
        }
    }
}

/// The same path with a counter as its query, one higher than before.
fn next_hop(target: &str) -> String {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let hop: u64 = query.strip_prefix("hop=").and_then(|hop| hop.parse().ok()).unwrap_or(0);
    format!("{path}?hop={}", hop + 1)
}

fn distort_headers(answer: &mut Answer, faults: &[Fault]) {
    for fault in faults {
        match fault {
            Fault::Header(name, value) => answer.headers.set(name, value),
            Fault::WithoutHeader(name) => answer.headers.remove(name),
            Fault::IgnoreRange => answer.headers.remove("Accept-Ranges"),
            Fault::ContentRange(value) if answer.status == 206 => {
                answer.headers.set("Content-Range", value);
            }
            _ => {}
        }
    }
}
