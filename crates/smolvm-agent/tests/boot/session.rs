//! A host's session with the agent of a guest.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use smolvm_protocol::{
    Decoder, Exec, Exit, Preamble, Program, Reply, Request, SESSION_CHANNEL, Scanner, Side, Stream,
    Welcome,
};

pub(crate) struct Session {
    stream: UnixStream,
    decoder: Decoder,
    pub(crate) welcome: Welcome,
    last_channel: u32,
}

impl Session {
    /// Waits for the agent's welcome on the host's end of its channel; `None` when the machine ends
    /// without it.
    pub(crate) fn open(channel: &Path) -> Option<Self> {
        // QEMU makes the socket a moment before it listens on it.
        let mut tries = 0;
        let mut stream = loop {
            match UnixStream::connect(channel) {
                Ok(stream) => break stream,
                Err(error) if tries == 1000 => panic!("{}: {error}", channel.display()),
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
            tries += 1;
        };
        stream.set_read_timeout(Some(Duration::from_mins(3))).unwrap();
        let nonce = u128::from(RandomState::new().hash_one("a session")).to_le_bytes();
        stream.write_all(&Preamble::new(Side::Host, nonce).encode()).unwrap();
        let mut scanner = Scanner::for_guest(nonce);
        let mut decoder = Decoder::default();
        let mut buffer = [0; 4096];
        loop {
            let count = stream.read(&mut buffer).ok().filter(|&count| count > 0)?;
            if let Some((_, rest)) = scanner.push(&buffer[..count]).unwrap() {
                decoder.push(&rest);
                break;
            }
        }
        let welcome =
            Welcome { agent: String::new(), kernel: String::new(), has_init: false, uptime: 0 };
        let mut session = Self { stream, decoder, welcome, last_channel: 0 };
        match session.reply(SESSION_CHANNEL)? {
            Reply::Welcome(welcome) => session.welcome = welcome,
            other => panic!("the agent says {other:?} instead of its welcome"),
        }
        Some(session)
    }

    /// The output of a line for the guest's shell, which must succeed.
    pub(crate) fn shell(&mut self, line: &str) -> String {
        let (output, exit) = self.run(line);
        assert_eq!(exit, Exit::Code(0), "{line}: {output}");
        output
    }

    /// All output of a line for the guest's shell, and how it ended.
    pub(crate) fn run(&mut self, line: &str) -> (String, Exit) {
        let channel = self.start(line);
        let mut output = Vec::new();
        loop {
            match self.reply(channel).expect("the agent answers") {
                Reply::Started(_) | Reply::End(_) => {}
                Reply::Data(Stream::Stdout | Stream::Stderr, data) => output.extend(data),
                Reply::Exited { exit, .. } => {
                    return (String::from_utf8_lossy(&output).into_owned(), exit);
                }
                other => panic!("{line}: {other:?}"),
            }
        }
    }

    /// Starts a line whose end is not waited for.
    pub(crate) fn start(&mut self, line: &str) -> u32 {
        self.last_channel += 1;
        let exec = Exec::new(Program::Shell(line.as_bytes().to_vec()));
        let mut wire = Vec::new();
        Request::Exec(exec).encode(self.last_channel, &mut wire);
        self.stream.write_all(&wire).unwrap();
        self.last_channel
    }

    /// The next reply on this channel; `None` when nothing more comes.
    fn reply(&mut self, channel: u32) -> Option<Reply> {
        let mut buffer = [0; 4096];
        loop {
            while let Some(frame) = self.decoder.next_frame().unwrap() {
                if frame.channel == channel {
                    return Some(Reply::decode(&frame).unwrap());
                }
            }
            match self.stream.read(&mut buffer) {
                Ok(0) | Err(_) => return None,
                Ok(count) => self.decoder.push(&buffer[..count]),
            }
        }
    }
}
