//! Puts a plan on the wire, byte by byte where the plan says so.

use std::borrow::Cow;
use std::io::{self, Write};
use std::sync::OnceLock;
use std::time::Duration;

use super::entity::Body;
use super::plan::{Event, Framing, Opening, Plan};
use crate::content::noise;
use crate::ledger::Entry;
use crate::socket::Socket;

/// The most that is written at once: large enough for hundreds of MiB in a debug build.
const BLOCK: usize = 256 * 1024;
/// A throttled body is sent in this many steps a second.
const STEPS_PER_SECOND: u64 = 20;

/// What is to become of the connection after a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    KeepAlive,
    Close,
    Reset,
}

/// One response on its way.
pub(super) struct Transmission<'a, S> {
    stream: &'a mut S,
    socket: &'a Socket,
    entry: &'a Entry,
}

impl<'a, S: Write> Transmission<'a, S> {
    pub(super) fn new(stream: &'a mut S, socket: &'a Socket, entry: &'a Entry) -> Self {
        Self { stream, socket, entry }
    }

    pub(super) fn send(&mut self, plan: Plan) -> io::Result<Ending> {
        let head = head_of(&plan);
        let mut head = head.as_bytes();
        for opening in &plan.openings {
            match opening {
                Opening::Wait(time) => {
                    if self.socket.wait(Some(*time)) {
                        return Ok(Ending::Close);
                    }
                }
                Opening::Interim(status) => {
                    write!(self.stream, "HTTP/1.1 {status} Interim\r\n\r\n")?;
                }
                Opening::CloseUnanswered => return Ok(Ending::Close),
                Opening::StallInHead => {
                    self.write_half(head)?;
                    self.socket.wait(None);
                    return Ok(Ending::Close);
                }
                Opening::CutInHead => {
                    self.write_half(head)?;
                    return Ok(Ending::Close);
                }
                Opening::EndlessHead => {
                    self.write_half(head)?;
                    loop {
                        self.stream.write_all(b"X-Filler: more of the same\r\n")?;
                    }
                }
                Opening::Raw(bytes) => head = bytes,
            }
        }
        self.stream.write_all(head)?;
        self.send_body(plan)
    }

    /// The first line and the fields before the middle of the head.
    fn write_half(&mut self, head: &[u8]) -> io::Result<()> {
        let middle = head.len() / 2;
        let line = head[..middle].iter().rposition(|&byte| byte == b'\n');
        self.stream.write_all(&head[..line.map_or(middle, |at| at + 1)])?;
        self.stream.flush()
    }

    fn send_body(&mut self, plan: Plan) -> io::Result<Ending> {
        let body = &plan.answer.body;
        let end = if plan.endless { u64::MAX } else { body.len() + plan.extra_bytes };
        let step = plan
            .bytes_per_second
            .map(|rate| usize::try_from(rate / STEPS_PER_SECOND).unwrap_or(BLOCK).max(1));
        let mut events = plan.events.into_iter().peekable();
        let mut position = 0;
        loop {
            while let Some((_, event)) = events.next_if(|(at, _)| *at <= position) {
                self.stream.flush()?;
                if let Some(ending) = self.befall(&event) {
                    return Ok(ending);
                }
            }
            if position == end {
                break;
            }
            let next = events.peek().map_or(end, |(at, _)| end.min(*at));
            let limit = usize::try_from(next - position).unwrap_or(BLOCK);
            let block = block_of(body, position, limit.min(step.unwrap_or(BLOCK)).min(BLOCK));
            self.write_block(plan.framing, &block)?;
            position += block.len() as u64;
            if let (Some(rate), Some(step)) = (plan.bytes_per_second, step) {
                self.stream.flush()?;
                let pause = step as f64 / rate.max(1) as f64;
                if position < end && self.socket.wait(Some(Duration::from_secs_f64(pause))) {
                    return Ok(Ending::Close);
                }
            }
        }
        if plan.framing == Framing::Chunked {
            self.stream.write_all(b"0\r\n\r\n")?;
        }
        self.stream.flush()?;
        Ok(if plan.keep_alive { Ending::KeepAlive } else { Ending::Close })
    }

    /// What is left of the response after this event: nothing, if it has an ending.
    fn befall(&self, event: &Event) -> Option<Ending> {
        match event {
            Event::Cut => Some(Ending::Close),
            Event::Reset => Some(Ending::Reset),
            Event::Stall(time) => self.socket.wait(Some(*time)).then_some(Ending::Close),
            Event::Hold(gate) => {
                gate.hold(|| self.socket.wait(Some(Duration::ZERO)));
                None
            }
        }
    }

    fn write_block(&mut self, framing: Framing, mut block: &[u8]) -> io::Result<()> {
        if framing == Framing::Chunked {
            write!(self.stream, "{:x}\r\n", block.len())?;
        }
        while !block.is_empty() {
            let written = self.stream.write(block)?;
            self.entry.wrote(written);
            block = &block[written..];
        }
        if framing == Framing::Chunked {
            self.stream.write_all(b"\r\n")?;
        }
        Ok(())
    }
}

/// The head as the plan has it, its empty line included.
fn head_of(plan: &Plan) -> String {
    let mut headers = plan.answer.headers.clone();
    for length in &plan.lengths {
        headers.push("Content-Length", length);
    }
    if plan.framing == Framing::Chunked {
        headers.push("Transfer-Encoding", "chunked");
    }
    let status = plan.answer.status;
    format!("HTTP/1.1 {status} {}\r\n{}\r\n", reason(status), headers.to_wire())
}

/// The next bytes of the body, or noise after its end.
fn block_of(body: &Body, position: u64, limit: usize) -> Cow<'_, [u8]> {
    static NOISE: OnceLock<Vec<u8>> = OnceLock::new();
    if position < body.len() {
        return body.slice(position, limit);
    }
    let noise = NOISE.get_or_init(|| noise(u64::MAX, BLOCK));
    Cow::Borrowed(&noise[..limit])
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        206 => "Partial Content",
        302 => "Found",
        304 => "Not Modified",
        404 => "Not Found",
        416 => "Range Not Satisfiable",
        503 => "Service Unavailable",
        _ => "Status",
    }
}
