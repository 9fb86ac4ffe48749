//! Agents that do not answer, or do not listen: nobody waits for them beyond what he allows.

use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use smolvm_protocol::{Exit, MAX_CHANNELS, Reply, Request, Stream};

use super::guest::Guest;
use crate::session::{Command, PowerOff, SessionError};

const SHORT: Duration = Duration::from_millis(100);

/// Behaviour 47: a time-out holds whatever the guest does.
#[test]
fn a_command_that_is_never_answered_times_out() {
    let guest = Guest::answering(|line, channel, _| {
        line.say(channel, &Reply::Started(7));
        line.say(channel, &Reply::Data(Stream::Stdout, b"so far".to_vec()));
    });
    // Time enough for what is said to have come.
    let allowed = Duration::from_secs(2);
    let error = guest.session().run(&Command::shell("sleep 9").timeout(allowed)).unwrap_err();
    let SessionError::CommandTimeout { command, after, stdout, stderr } = error else {
        panic!("{error}")
    };
    assert_eq!((command.as_str(), after), ("`sleep 9`", allowed));
    assert_eq!((stdout.as_slice(), stderr.as_slice()), (b"so far".as_slice(), b"".as_slice()));
}

#[test]
fn a_command_is_closed_when_it_times_out() {
    let (tell, told) = std::sync::mpsc::channel();
    let guest = Guest::start(move |mut line| {
        let mut opened = None;
        while let Some((channel, request)) = line.next() {
            match request {
                Request::Exec(_) => opened = Some(channel),
                Request::Close => {
                    tell.send(opened == Some(channel)).unwrap();
                    line.say(channel, &Reply::Exited { exit: Exit::Signal(9), nanos: 0 });
                }
                _ => {}
            }
        }
    });
    let session = guest.session();
    session.run(&Command::shell("sleep 9").timeout(SHORT)).unwrap_err();
    assert!(told.recv().unwrap(), "another command was closed");
    assert!(session.is_open());
}

#[test]
fn other_questions_are_not_waited_for_either() {
    let guest = Guest::start(|mut line| line.drain());
    let session = guest.session();
    for error in [
        session.settle(SHORT).unwrap_err(),
        session.spawn(&Command::shell("true").timeout(SHORT)).unwrap_err(),
        session.power_off(PowerOff::Orderly).unwrap_err(),
    ] {
        assert!(matches!(error, SessionError::NotAnswering { .. }), "{error}");
    }
}

#[test]
fn what_is_never_answered_fills_no_more_than_its_table() {
    let guest = Guest::start(|mut line| line.drain());
    let session = guest.session();
    for _ in 0..MAX_CHANNELS {
        let error = session.settle(Duration::ZERO).unwrap_err();
        assert!(matches!(error, SessionError::NotAnswering { .. }), "{error}");
    }
    let error = session.settle(SHORT).unwrap_err();
    assert!(matches!(error, SessionError::TooManyAtOnce), "{error}");
}

#[test]
fn one_who_takes_no_input_is_not_waited_for() {
    let guest = Guest::answering(|line, channel, _| {
        line.say(channel, &Reply::Started(7));
    });
    let input = vec![b'x'; 10 << 20];
    let error = guest.session().run(&Command::new("cat").stdin(input).timeout(SHORT)).unwrap_err();
    assert!(matches!(error, SessionError::CommandTimeout { .. }), "{error}");
}

/// Everything that the host says stays unread.
#[test]
fn one_who_does_not_listen_at_all_is_left() {
    let guest = Guest::start(|mut line| {
        let channel = line.opener().unwrap();
        line.say(channel, &Reply::Started(7));
        // Until the host closes the connection, which is seen without reading.
        poll(&mut [PollFd::new(&line.stream, PollFlags::empty())], None).unwrap();
    });
    let session = guest.session();
    let process = session.spawn(&Command::shell("sleep 9")).unwrap();
    let error = (0..2_000_000).find_map(|_| process.signal(1).err()).unwrap();
    assert!(matches!(error, SessionError::NotReading), "{error}");
    let error = session.run(&Command::shell("true").no_timeout()).unwrap_err();
    assert!(matches!(error, SessionError::NotReading), "{error}");
}
