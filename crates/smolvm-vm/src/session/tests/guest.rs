//! [`Guest`]: an agent that does what a test wants, behind a socket like the supervisor's.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use smolvm_protocol::{
    Decoder, Nonce, Preamble, Reply, Request, SESSION_CHANNEL, Scanner, Side, Stream, Welcome,
};
use tempfile::TempDir;

use crate::session::{Session, SessionError};

/// An agent of a test's own. Each connection to it is served by a thread of its own, until its
/// host hangs up.
pub(super) struct Guest {
    directory: TempDir,
}

/// The guest's end of a connection.
pub(super) struct Line {
    pub(super) stream: UnixStream,
    decoder: Decoder,
}

impl Guest {
    /// An agent that says its welcome, and then does something with the line.
    pub(super) fn start(behave: impl Fn(Line) + Send + Sync + 'static) -> Self {
        Self::rude(move |mut stream| {
            let (nonce, decoder) = Line::hear_host(&mut stream);
            let mut line = Line { stream, decoder };
            line.raw(&Preamble::new(Side::Guest, nonce).encode());
            line.say(SESSION_CHANNEL, &Reply::Welcome(welcome()));
            behave(line);
        })
    }

    /// An agent that may not even be welcoming.
    pub(super) fn rude(behave: impl Fn(UnixStream) + Send + Sync + 'static) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("agent.sock")).unwrap();
        let behave = Arc::new(behave);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let behave = Arc::clone(&behave);
                thread::spawn(move || behave(stream));
            }
        });
        Self { directory }
    }

    /// An agent that answers each request that opens a channel.
    pub(super) fn answering(
        answer: impl Fn(&mut Line, u32, Request) + Send + Sync + 'static,
    ) -> Self {
        Self::start(move |mut line| {
            while let Some((channel, request)) = line.next() {
                if request.is_opener() {
                    answer(&mut line, channel, request);
                }
            }
        })
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.directory.path().join("agent.sock")
    }

    pub(super) fn connect(&self, patience: Duration) -> Result<Session, SessionError> {
        Session::connect(&self.socket(), Instant::now() + patience)
    }

    pub(super) fn session(&self) -> Session {
        self.connect(Duration::from_secs(10)).unwrap()
    }
}

impl Line {
    /// Waits for a host's preamble; returns its nonce, and what came after it.
    pub(super) fn hear_host(stream: &mut UnixStream) -> (Nonce, Decoder) {
        let mut scanner = Scanner::for_host();
        let mut buffer = [0; 4096];
        loop {
            let count = stream.read(&mut buffer).unwrap();
            assert!(count > 0, "the host hangs up before its preamble");
            if let Some((preamble, rest)) = scanner.push(&buffer[..count]).unwrap() {
                let mut decoder = Decoder::default();
                decoder.push(&rest);
                return (preamble.nonce, decoder);
            }
        }
    }

    /// The next request, until the host hangs up.
    pub(super) fn next(&mut self) -> Option<(u32, Request)> {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            if let Some(frame) = self.decoder.next_frame().unwrap() {
                return Some((frame.channel, Request::decode(&frame).unwrap()));
            }
            match self.stream.read(&mut buffer) {
                Ok(0) | Err(_) => return None,
                Ok(count) => self.decoder.push(&buffer[..count]),
            }
        }
    }

    /// Waits for a request that opens a channel; returns its number.
    pub(super) fn opener(&mut self) -> Option<u32> {
        loop {
            let (channel, request) = self.next()?;
            if request.is_opener() {
                return Some(channel);
            }
        }
    }

    /// Says something; `false` once nobody listens.
    pub(super) fn say(&mut self, channel: u32, reply: &Reply) -> bool {
        let mut wire = Vec::new();
        reply.encode(channel, &mut wire);
        self.raw(&wire)
    }

    /// Says so many bytes of standard output, in pieces of 1 KiB.
    pub(super) fn say_output(&mut self, channel: u32, bytes: u32) {
        for _ in 0..bytes / 1024 {
            self.say(channel, &Reply::Data(Stream::Stdout, vec![b'x'; 1024]));
        }
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Hears all that is still said, until the host hangs up.
    pub(super) fn drain(&mut self) {
        while self.next().is_some() {}
    }
}

pub(super) fn welcome() -> Welcome {
    Welcome {
        agent: "a test".to_owned(),
        kernel: "none".to_owned(),
        has_init: false,
        uptime: 1_000_000_000,
    }
}
