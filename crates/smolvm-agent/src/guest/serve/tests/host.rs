//! A host that talks to an agent in a process of its own.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use smolvm_protocol::{
    Decoder, Exec, Exit, Failure, MAX_PAYLOAD, Nonce, Preamble, Program, Reply, Request,
    SESSION_CHANNEL, Scanner, SendWindow, Side, Stream, Welcome,
};

use super::super::{Guest, machine::Machine, server::Server};
use crate::sys::launch::Restored;
use crate::sys::process::ProcessGroup;
use crate::sys::{agent_for_test, signal_action};

/// A host with a session.
pub(super) struct Host {
    pub(super) stream: UnixStream,
    pub(super) welcome: Welcome,
    pub(super) agent: Agent,
    decoder: Decoder,
    last_channel: u32,
    /// Replies on channels that were not asked about yet.
    replies: BTreeMap<u32, VecDeque<Reply>>,
}

/// An agent, which ends when its host is gone.
pub(super) struct Agent(ProcessGroup);

/// What a command has left behind.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) process: u32,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
    pub(super) exit: Exit,
}

pub(super) const NONCE: [u8; 16] = *b"a test's nonce..";

impl Agent {
    /// An agent, and what leads to it.
    pub(super) fn start() -> (Self, UnixStream) {
        Self::start_after(|| {})
    }

    /// An agent whose process does something else before.
    pub(super) fn start_after(before: impl FnOnce()) -> (Self, UnixStream) {
        let (here, there) = UnixStream::pair().unwrap();
        there.set_nonblocking(true).unwrap();
        let agent = agent_for_test::fork_with(&File::from(OwnedFd::from(there)), |host| {
            before();
            signal_action::reset_ignored();
            let server = Server::new(
                Guest { root_has_init: false },
                Restored::default(),
                Machine::Untouched,
            );
            let server = server.unwrap();
            server.serve_only(host).unwrap();
        });
        // What never answers is a failure, and not a test that never ends.
        here.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
        here.set_write_timeout(Some(Duration::from_mins(1))).unwrap();
        (Self(agent), here)
    }

    /// Waits until it has ended; whether it did well.
    pub(super) fn ended_well(&self) -> bool {
        self.0.wait().is_some_and(|status| status.success())
    }
}

impl Host {
    /// A host that the agent has welcomed.
    pub(super) fn connect() -> Self {
        let (agent, stream) = Agent::start();
        Self::greet(agent, stream)
    }

    /// A host that greets an agent, which welcomes it.
    pub(super) fn greet(agent: Agent, stream: UnixStream) -> Self {
        Self::greet_with(agent, stream, NONCE)
    }

    /// As [`greet`](Self::greet), with a nonce of the caller's.
    pub(super) fn greet_with(agent: Agent, mut stream: UnixStream, nonce: Nonce) -> Self {
        stream.write_all(&Preamble::new(Side::Host, nonce).encode()).unwrap();
        let mut scanner = Scanner::for_guest(nonce);
        let mut buffer = [0; 4096];
        let rest = loop {
            let count = read(&mut stream, &mut buffer);
            if let Some((_, rest)) = scanner.push(&buffer[..count]).unwrap() {
                break rest;
            }
        };
        let mut decoder = Decoder::default();
        decoder.push(&rest);
        let mut host = Self {
            stream,
            welcome: Welcome {
                agent: String::new(),
                kernel: String::new(),
                has_init: false,
                uptime: 0,
            },
            agent,
            decoder,
            last_channel: 0,
            replies: BTreeMap::new(),
        };
        match host.reply(SESSION_CHANNEL) {
            Reply::Welcome(welcome) => host.welcome = welcome,
            other => panic!("the agent says {other:?} instead of its welcome"),
        }
        host
    }

    /// Opens a channel.
    pub(super) fn open(&mut self, request: &Request) -> u32 {
        self.last_channel += 1;
        self.send(self.last_channel, request);
        self.last_channel
    }

    pub(super) fn send(&mut self, channel: u32, request: &Request) {
        let mut wire = Vec::new();
        request.encode(channel, &mut wire);
        self.stream.write_all(&wire).unwrap();
    }

    /// The next reply on a channel.
    pub(super) fn reply(&mut self, channel: u32) -> Reply {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            if let Some(reply) = self.replies.get_mut(&channel).and_then(VecDeque::pop_front) {
                return reply;
            }
            while let Some(frame) = self.decoder.next_frame().unwrap() {
                let reply = Reply::decode(&frame).unwrap();
                self.replies.entry(frame.channel).or_default().push_back(reply);
            }
            if self.replies.get(&channel).is_none_or(VecDeque::is_empty) {
                let count = read(&mut self.stream, &mut buffer);
                assert!(count > 0, "the agent has ended the session");
                self.decoder.push(&buffer[..count]);
            }
        }
    }

    /// Waits until the agent has ended the session.
    pub(super) fn read_to_end(&mut self) {
        // What the agent has not read by then is an error on this side.
        if let Err(error) = self.stream.read_to_end(&mut Vec::new()) {
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        }
    }

    /// Sends a request and waits for the answer, which must be the only one.
    pub(super) fn ask(&mut self, request: &Request) -> Reply {
        let channel = self.open(request);
        let reply = self.reply(channel);
        assert!(reply.is_final(), "{reply:?}");
        reply
    }

    /// Runs a command to its end.
    pub(super) fn exec(&mut self, exec: Exec) -> Result<Outcome, Failure> {
        let channel = self.open(&Request::Exec(exec));
        self.outcome(channel)
    }

    /// Runs a line of the shell to its end.
    pub(super) fn sh(&mut self, line: &str) -> Outcome {
        self.exec(sh(line)).unwrap()
    }

    /// Takes all that a command writes, until it has ended.
    pub(super) fn outcome(&mut self, channel: u32) -> Result<Outcome, Failure> {
        let (mut stdout, mut stderr, mut process) = (Vec::new(), Vec::new(), 0);
        loop {
            match self.reply(channel) {
                Reply::Started(number) => process = number,
                Reply::Data(stream, bytes) => {
                    let length = u32::try_from(bytes.len()).unwrap();
                    self.send(channel, &Request::Credit(stream, length));
                    match stream {
                        Stream::Stdout => stdout.extend(bytes),
                        Stream::Stderr => stderr.extend(bytes),
                        Stream::Stdin => panic!("a guest has no input for the host"),
                    }
                }
                Reply::End(_) | Reply::Credit(_) => {}
                Reply::Exited { exit, .. } => return Ok(Outcome { process, stdout, stderr, exit }),
                Reply::Failed(failure) => return Err(failure),
                other => panic!("a command does not answer {other:?}"),
            }
        }
    }

    /// The next line that a command writes to its standard output.
    pub(super) fn first_line(&mut self, channel: u32) -> String {
        let mut line = Vec::new();
        loop {
            let mut bytes = match self.reply(channel) {
                Reply::Data(Stream::Stdout, bytes) => bytes,
                Reply::Started(_) => continue,
                other => panic!("there is {other:?} after {line:?}, and no line"),
            };
            let end = bytes.iter().position(|&byte| byte == b'\n');
            let rest = bytes.split_off(end.map_or(bytes.len(), |end| end + 1));
            let length = u32::try_from(bytes.len()).unwrap();
            self.send(channel, &Request::Credit(Stream::Stdout, length));
            line.extend(bytes);
            if end.is_some() {
                if !rest.is_empty() {
                    let replies = self.replies.entry(channel).or_default();
                    replies.push_front(Reply::Data(Stream::Stdout, rest));
                }
                line.pop();
                return String::from_utf8(line).unwrap();
            }
        }
    }

    /// Sends `input` and its end, as far as there is credit, while it takes what comes back; until
    /// the final reply. Returns the data that came.
    pub(super) fn pump(&mut self, channel: u32, input: &[u8]) -> Vec<u8> {
        let (mut rest, mut window, mut ended) = (input, SendWindow::default(), false);
        let mut output = Vec::new();
        loop {
            while !rest.is_empty() && window.available() > 0 {
                let (part, next) =
                    rest.split_at(rest.len().min(window.available()).min(MAX_PAYLOAD));
                self.send(channel, &Request::Data(part.to_vec()));
                window.sent(part.len()).unwrap();
                rest = next;
            }
            if rest.is_empty() && !ended {
                self.send(channel, &Request::End);
                ended = true;
            }
            match self.reply(channel) {
                Reply::Credit(bytes) => window.credit(bytes).unwrap(),
                Reply::Data(stream, bytes) => {
                    let length = u32::try_from(bytes.len()).unwrap();
                    self.send(channel, &Request::Credit(stream, length));
                    output.extend(bytes);
                }
                Reply::Failed(failure) => panic!("{failure}"),
                reply if reply.is_final() => return output,
                _ => {}
            }
        }
    }

    /// The replies on a channel that have come and were not asked for.
    pub(super) fn waiting(&self, channel: u32) -> Vec<Reply> {
        self.replies.get(&channel).cloned().unwrap_or_default().into()
    }
}

impl Outcome {
    /// What it wrote to its standard output, as text; it must have done nothing wrong.
    pub(super) fn text(&self) -> &str {
        assert_eq!(
            (self.exit, self.stderr.as_slice()),
            (Exit::Code(0), b"".as_slice()),
            "{self:?}"
        );
        std::str::from_utf8(&self.stdout).unwrap()
    }
}

/// A line of the shell.
pub(super) fn sh(line: &str) -> Exec {
    Exec::new(Program::Shell(line.as_bytes().to_vec()))
}

/// A program and its arguments.
pub(super) fn program(arguments: &[&str]) -> Exec {
    let arguments = arguments.iter().map(|argument| argument.as_bytes().to_vec());
    Exec::new(Program::Arguments(arguments.collect()))
}

/// A read with a time limit is not begun again by itself when the whole machine was stopped.
fn read(stream: &mut UnixStream, buffer: &mut [u8]) -> usize {
    loop {
        match stream.read(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            read => return read.expect("the agent answers"),
        }
    }
}

/// Whether the process of this number has not ended.
pub(super) fn is_running(process: &str) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"));
    status.is_ok_and(|status| !status.contains("\nState:\tZ"))
}

/// Waits until something has happened.
pub(super) fn eventually(has_happened: impl Fn() -> bool) {
    let started = Instant::now();
    while !has_happened() {
        assert!(started.elapsed() < Duration::from_mins(1), "it does not happen");
        std::thread::sleep(Duration::from_millis(5));
    }
}
