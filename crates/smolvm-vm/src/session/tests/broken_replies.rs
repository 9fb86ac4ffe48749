//! Agents that break the protocol after a proper welcome: the session ends, with a clear error for
//! everybody who uses it.

use smolvm_protocol::{
    Entry, EntryKind, EntryPath, Exit, Failure, FailureKind, Frame, HEADER, MAX_PAYLOAD, Reply,
    Stream, WINDOW,
};

use super::guest::{Guest, Line, welcome};
use crate::session::{Command, PowerOff, SessionError};

/// What an agent says to a command on a channel, after which it only listens.
type Answer = fn(&mut Line, u32);

const DATA: u8 = 144;
const EXITED: u8 = 160;

fn frame(channel: u32, kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut wire = Vec::new();
    Frame { channel, kind, payload }.encode(&mut wire);
    wire
}

fn raw(line: &mut Line, channel: u32, kind: u8, payload: &[u8]) {
    line.raw(&frame(channel, kind, payload));
}

/// The host may hang up before all is said.
fn say(line: &mut Line, channel: u32, reply: &Reply) {
    line.say(channel, reply);
}

const ANSWERS: &[(&str, Answer)] = &[
    ("garbage", |line, _| {
        line.raw(&[0xa5; 4096]);
    }),
    ("a length of 4 GiB", |line, channel| {
        let header = [[0xff; 4], channel.to_le_bytes()].concat();
        line.raw(&[&header[..], &[DATA]].concat());
    }),
    ("a payload one byte too long", |line, channel| {
        line.raw(&frame(channel, DATA, &vec![1; MAX_PAYLOAD + 1])[..HEADER]);
    }),
    ("an unknown kind", |line, channel| raw(line, channel, 99, b"")),
    ("a request", |line, channel| raw(line, channel, 1, b"")),
    ("another welcome", |line, channel| say(line, channel, &Reply::Welcome(welcome()))),
    ("another welcome to all", |line, _| say(line, 0, &Reply::Welcome(welcome()))),
    ("an answer that nobody asked for", |line, channel| say(line, channel + 9, &Reply::Done)),
    ("an answer to something else", |line, channel| say(line, channel, &Reply::Done)),
    ("a file", |line, channel| {
        let path = EntryPath::root();
        let kind = EntryKind::Directory;
        say(line, channel, &Reply::Entry(Entry { path, kind, mode: 0, modified: 0 }));
    }),
    ("what only the host sends", |line, channel| {
        say(line, channel, &Reply::Data(Stream::Stdin, b"x".to_vec()));
    }),
    ("a stream that does not exist", |line, channel| raw(line, channel, DATA, &[7, b'x'])),
    ("no stream", |line, channel| raw(line, channel, DATA, b"")),
    ("credit for what was never sent", |line, channel| say(line, channel, &Reply::Credit(1))),
    ("two starts", |line, channel| {
        for _ in 0..2 {
            say(line, channel, &Reply::Started(1));
        }
    }),
    ("two ends", |line, channel| {
        for _ in 0..2 {
            say(line, channel, &Reply::End(Stream::Stdout));
        }
    }),
    ("data after the end", |line, channel| {
        say(line, channel, &Reply::End(Stream::Stdout));
        say(line, channel, &Reply::Data(Stream::Stdout, b"x".to_vec()));
    }),
    ("an exit that is none", |line, channel| raw(line, channel, EXITED, &[9; 10])),
    ("half an exit", |line, channel| raw(line, channel, EXITED, &[0])),
    ("an exit and a half", |line, channel| raw(line, channel, EXITED, &[0; 16])),
];

/// Behaviour 47: what a hostile guest says is an error, and neither a crash nor a wait.
#[test]
fn a_broken_answer_ends_the_session_with_a_clear_error() {
    for &(name, answer) in ANSWERS {
        let guest = Guest::start(move |mut line| {
            // The second one suffers from what is said to the first.
            let first = line.opener().unwrap();
            line.opener().unwrap();
            answer(&mut line, first);
            line.drain();
        });
        let session = guest.session();
        let run = || session.run(&Command::shell("anything").no_timeout());
        let (first, second) = std::thread::scope(|scope| {
            let (first, second) = (scope.spawn(run), scope.spawn(run));
            (first.join().unwrap(), second.join().unwrap())
        });
        for error in [first.unwrap_err(), second.unwrap_err(), run().unwrap_err()] {
            assert!(matches!(error, SessionError::Protocol(_)), "{name}: {error}");
            assert!(error.to_string().contains("broke the protocol"), "{name}: {error}");
        }
        assert!(!session.is_open());
    }
}

/// Behaviour 47: nobody holds more of a stream than he has granted.
#[test]
fn more_than_there_is_credit_for_ends_the_session() {
    let guest = Guest::answering(|line, channel, _| {
        line.say(channel, &Reply::Started(7));
        for _ in 0..=WINDOW / 32768 {
            line.say(channel, &Reply::Data(Stream::Stderr, vec![b'x'; 32768]));
        }
    });
    let process = guest.session().spawn(&Command::shell("anything")).unwrap();
    let error = process.wait().unwrap_err();
    assert!(matches!(error, SessionError::Protocol(_)), "{error}");
}

#[test]
fn two_exits_are_one_too_many() {
    let guest = Guest::answering(|line, channel, _| {
        for _ in 0..2 {
            line.say(channel, &Reply::Exited { exit: Exit::Code(3), nanos: 5 });
        }
    });
    let session = guest.session();
    let result = session.run(&Command::shell("anything")).unwrap();
    assert_eq!((result.exit_code, result.guest_duration.as_nanos()), (3, 5));
    let error = session.run(&Command::shell("anything").no_timeout()).unwrap_err();
    assert!(matches!(error, SessionError::Protocol(_)), "{error}");
}

#[test]
fn what_was_said_before_the_end_counts() {
    let guest = Guest::start(|mut line| {
        let channel = line.opener().unwrap();
        line.say(channel, &Reply::Data(Stream::Stdout, b"last words".to_vec()));
        line.say(channel, &Reply::Exited { exit: Exit::Signal(9), nanos: 0 });
    });
    let session = guest.session();
    let result = session.run(&Command::shell("anything")).unwrap();
    assert_eq!((result.exit_code, result.stdout().as_ref()), (-9, "last words"));
    assert_eq!(result.signal(), Some(9));
    let error = session.run(&Command::shell("anything").no_timeout()).unwrap_err();
    assert!(matches!(error, SessionError::Disconnected), "{error}");
    // What is asked to end has ended.
    session.power_off(PowerOff::Now).unwrap();
}

#[test]
fn a_terminal_is_not_told_what_a_guest_says() {
    let guest = Guest::answering(|line, channel, _| {
        let message = "\x1b]52;c;AAAA\x07 \x1b[2J no such file\r\n".repeat(50);
        line.say(channel, &Reply::Failed(Failure { kind: FailureKind::NotFound, message }));
    });
    let error = guest.session().run(&Command::new("nothing")).unwrap_err();
    assert!(matches!(error, SessionError::CommandNotFound { .. }), "{error}");
    let shown = error.to_string();
    assert!(shown.contains("no such file") && !shown.chars().any(char::is_control), "{shown:?}");
    assert!(shown.chars().count() < 700, "{shown}");
}
