//! A client of the supervisor that checks nothing and can do everything wrong.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use smolvm_protocol::{
    Decoder, Exec, Failure, Preamble, Program, Reply, Request, SESSION_CHANNEL, Scanner, Side,
};

use crate::rig::TIMEOUT;

pub(crate) struct Client {
    pub(crate) socket: UnixStream,
    decoder: Decoder,
}

impl Client {
    /// Connects, and says the preamble.
    pub(crate) fn connect(socket: &Path) -> Self {
        let mut socket = UnixStream::connect(socket).unwrap();
        socket.set_read_timeout(Some(TIMEOUT)).unwrap();
        socket.write_all(&Preamble::new(Side::Host, [7; 16]).encode()).unwrap();
        Self { socket, decoder: Decoder::default() }
    }

    /// The first reply of the session, after the preamble.
    pub(crate) fn welcome(&mut self) -> Reply {
        let mut scanner = Scanner::for_guest([7; 16]);
        loop {
            let bytes = self.read().expect("there is an answer");
            if let Some((_, rest)) = scanner.push(&bytes).unwrap() {
                self.decoder.push(&rest);
                let (channel, reply) = self.next().expect("there is a welcome");
                assert_eq!(channel, SESSION_CHANNEL);
                return reply;
            }
        }
    }

    pub(crate) fn say(&mut self, channel: u32, request: &Request) {
        let mut wire = Vec::new();
        request.encode(channel, &mut wire);
        self.socket.write_all(&wire).unwrap();
    }

    /// Opens a channel with a command.
    pub(crate) fn exec(&mut self, channel: u32, line: &str) {
        let exec = Exec::new(Program::Shell(line.into()));
        self.say(channel, &Request::Exec(exec));
    }

    /// The next reply; `None` at the end of the session.
    pub(crate) fn next(&mut self) -> Option<(u32, Reply)> {
        loop {
            if let Some(frame) = self.decoder.next_frame().unwrap() {
                return Some((frame.channel, Reply::decode(&frame).unwrap()));
            }
            let bytes = self.read()?;
            self.decoder.push(&bytes);
        }
    }

    /// The failures that end the session, by channel.
    pub(crate) fn last_words(&mut self) -> Vec<(u32, Failure)> {
        let mut failures = Vec::new();
        while let Some((channel, reply)) = self.next() {
            if let Reply::Failed(failure) = reply {
                failures.push((channel, failure));
            }
        }
        failures
    }

    fn read(&mut self) -> Option<Vec<u8>> {
        let mut buffer = vec![0; 65536];
        match self.socket.read(&mut buffer) {
            Ok(0) => None,
            Ok(count) => {
                buffer.truncate(count);
                Some(buffer)
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => None,
            Err(error) => panic!("the supervisor says nothing: {error}"),
        }
    }
}
