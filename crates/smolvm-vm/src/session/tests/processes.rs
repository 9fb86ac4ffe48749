//! What a process's handles tell the guest, and what they make of its answers.

use std::io::{Cursor, ErrorKind, Read as _, Write as _};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use smolvm_protocol::{Exit, Reply, Request, Stream, WINDOW, WindowSize};

use super::guest::Guest;
use crate::session::{Command, SessionError};

const LONG: Duration = Duration::from_secs(20);
const EXITED: Reply = Reply::Exited { exit: Exit::Code(0), nanos: 0 };

/// A guest that starts a command, and passes on what it hears of it. It ends the command when its
/// input has ended, or it is closed.
fn listening() -> (Guest, Receiver<Request>) {
    let (tell, told) = mpsc::channel();
    let guest = Guest::start(move |mut line| {
        while let Some((channel, request)) = line.next() {
            if let Request::Exec(_) = request {
                line.say(channel, &Reply::Started(7));
                continue;
            }
            let is_end = matches!(request, Request::End | Request::Close);
            // The test may have heard enough.
            let _ = tell.send(request);
            if is_end {
                line.say(channel, &EXITED);
            }
        }
    });
    (guest, told)
}

#[test]
fn the_guest_hears_what_is_said_to_a_process() {
    let (guest, told) = listening();
    let process = guest.session().spawn(&Command::new("cat").stdin_piped()).unwrap();
    assert_eq!(process.pid(), 7);
    assert_eq!(process.try_wait().unwrap(), None);
    let size = WindowSize { rows: 3, columns: 5 };
    process.signal(15).unwrap();
    process.resize(size).unwrap();
    process.kill().unwrap();
    let mut input = process.take_stdin().unwrap();
    assert!(process.take_stdin().is_none());
    input.write_all(b"hello").unwrap();
    drop(input);
    assert!(process.wait().unwrap().ok());
    // To one that has ended nothing is said.
    process.kill().unwrap();
    drop(process);
    let expected = [
        Request::Signal(15),
        Request::Resize(size),
        Request::Signal(9),
        Request::Data(b"hello".to_vec()),
        Request::End,
    ];
    for request in expected {
        assert_eq!(told.recv_timeout(LONG).unwrap(), request);
    }
    // The session ended with the process, and nothing else was said before.
    assert_eq!(told.recv_timeout(Duration::from_millis(100)).ok(), None);
}

#[test]
fn a_process_that_is_dropped_is_closed() {
    let (guest, told) = listening();
    let session = guest.session();
    let process = session.spawn(&Command::new("cat").stdin_piped()).unwrap();
    let mut output = process.take_stdout().unwrap();
    let mut input = process.take_stdin().unwrap();
    drop(process);
    assert_eq!(told.recv_timeout(LONG).unwrap(), Request::Close);
    assert_eq!(output.read(&mut [0; 1]).unwrap(), 0);
    assert_eq!(input.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
    assert!(session.is_open());
}

#[test]
fn waiting_ends_an_input_that_nobody_has_taken() {
    let (guest, _told) = listening();
    let process = guest.session().spawn(&Command::new("cat").stdin_piped()).unwrap();
    assert_eq!(process.wait_timeout(Duration::ZERO).unwrap(), None);
    assert!(process.wait().unwrap().ok());
    assert!(process.try_wait().unwrap().is_some());
}

/// What the guest's pipes hold when a command is killed is more than the host has granted.
#[test]
fn a_killed_process_is_waited_for_whose_output_nobody_reads() {
    const PIPE: u32 = 64 * 1024;
    let guest = Guest::start(move |mut line| {
        let mut granted = None;
        while let Some((channel, request)) = line.next() {
            match request {
                Request::Exec(_) => {
                    line.say(channel, &Reply::Started(7));
                    line.say_output(channel, WINDOW);
                }
                Request::Signal(9) => granted = Some(0),
                Request::Credit(Stream::Stdout, credit) => {
                    let granted = granted.as_mut().expect("nothing was read");
                    let before = *granted;
                    *granted += credit;
                    if before < PIPE && *granted >= PIPE {
                        line.say_output(channel, PIPE);
                        line.say(channel, &Reply::End(Stream::Stdout));
                        line.say(channel, &EXITED);
                    }
                }
                _ => {}
            }
        }
    });
    let process = guest.session().spawn(&Command::new("yes")).unwrap();
    let mut output = process.take_stdout().unwrap();
    // All of the window has come.
    while process.channel.wait(None, |state| Some(state.stdout.held())) != Some(WINDOW as usize) {
        std::thread::yield_now();
    }
    process.kill().unwrap();
    assert!(process.wait().unwrap().ok());
    let mut read = Vec::new();
    output.read_to_end(&mut read).unwrap();
    assert_eq!(read.len(), (WINDOW + PIPE) as usize);
}

/// However often a guest's command is sent signals, it does not fill the host's memory.
#[test]
fn signals_make_room_once() {
    let (tell, told) = mpsc::channel();
    let guest = Guest::start(move |mut line| {
        let mut sent = 0;
        while let Some((channel, request)) = line.next() {
            let credit = match request {
                Request::Exec(_) => {
                    line.say(channel, &Reply::Started(7));
                    WINDOW
                }
                Request::Credit(Stream::Stdout, credit) => credit,
                Request::Resize(_) => {
                    tell.send(sent).unwrap();
                    continue;
                }
                _ => continue,
            };
            sent += credit;
            line.say_output(channel, credit);
        }
    });
    let process = guest.session().spawn(&Command::new("yes")).unwrap();
    for signal in [15, 9].repeat(50) {
        process.signal(signal).unwrap();
    }
    let mut sent = 0;
    for _ in 0..100 {
        process.resize(WindowSize { rows: 1, columns: 1 }).unwrap();
        sent = told.recv_timeout(LONG).unwrap();
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!((2 * WINDOW..=6 * WINDOW).contains(&sent), "{sent}");
}

/// Behaviour 47: nothing is held of a stream beyond its window.
#[test]
fn credit_is_granted_as_a_stream_is_read_or_dropped() {
    const QUARTER: u32 = WINDOW / 4;
    let (tell, told) = mpsc::channel();
    let guest = Guest::start(move |mut line| {
        let mut sent = 0;
        while let Some((channel, request)) = line.next() {
            let credit = match request {
                Request::Exec(_) => {
                    line.say(channel, &Reply::Started(7));
                    WINDOW
                }
                Request::Credit(Stream::Stdout, credit) => credit,
                _ => continue,
            };
            line.say_output(channel, credit);
            sent += credit;
            // The test may have heard enough.
            let _ = tell.send(sent);
        }
    });
    let process = guest.session().spawn(&Command::shell("yes")).unwrap();
    assert_eq!(told.recv_timeout(LONG).unwrap(), WINDOW);
    let mut output = process.take_stdout().unwrap();
    let mut buffer = vec![0; QUARTER as usize];
    output.read_exact(&mut buffer[1..]).unwrap();
    assert!(told.try_recv().is_err(), "credit for what was not read");
    output.read_exact(&mut buffer[..1]).unwrap();
    assert_eq!(told.recv_timeout(LONG).unwrap(), WINDOW + QUARTER);
    drop(output);
    // Now all is thrown away, and the command may go on.
    for _ in 0..100 {
        told.recv_timeout(LONG).unwrap();
    }
}

#[test]
fn streams_end_in_any_order() {
    let guest = Guest::answering(|line, channel, _| {
        for reply in [
            Reply::Started(7),
            Reply::Data(Stream::Stderr, b"late".to_vec()),
            Reply::End(Stream::Stdout),
            EXITED,
        ] {
            line.say(channel, &reply);
        }
    });
    let process = guest.session().spawn(&Command::shell("true")).unwrap();
    assert!(process.wait().unwrap().ok());
    let mut text = String::new();
    process.take_stdout().unwrap().read_to_string(&mut text).unwrap();
    process.take_stderr().unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "late");
}

#[test]
fn input_is_fed_while_output_is_read() {
    // As cat would: no more input is taken before what came of the last has gone.
    let guest = Guest::start(|mut line| {
        let mut credit = 0;
        let mut kept = Vec::new();
        let mut has_ended = false;
        let mut current = 0;
        while let Some((channel, request)) = line.next() {
            match request {
                Request::Exec(_) => {
                    (current, credit, has_ended) = (channel, WINDOW as usize, false);
                    line.say(channel, &Reply::Started(7));
                }
                // What is said late about a command that has ended.
                _ if channel != current => continue,
                Request::Data(bytes) => kept.extend_from_slice(&bytes),
                Request::Credit(_, granted) => credit += granted as usize,
                Request::End => has_ended = true,
                _ => {}
            }
            let part: Vec<u8> = kept.drain(..kept.len().min(credit)).collect();
            credit -= part.len();
            for piece in part.chunks(32 * 1024) {
                let taken = u32::try_from(piece.len()).unwrap();
                line.say(channel, &Reply::Data(Stream::Stdout, piece.to_vec()));
                line.say(channel, &Reply::Credit(taken));
            }
            if has_ended && kept.is_empty() {
                current = 0;
                line.say(channel, &EXITED);
            }
        }
    });
    let session = guest.session();
    let input: Vec<u8> = (0..5_000_000_u32).map(|number| (number % 251) as u8).collect();
    let result = session.run(&Command::new("cat").stdin(input.clone())).unwrap();
    assert!(result.stdout == input, "{} bytes came back", result.stdout.len());

    let result = session.run_with_stdin(&Command::new("cat"), Cursor::new(input.clone())).unwrap();
    assert!(result.stdout == input, "{} bytes came back", result.stdout.len());

    let process = session.spawn(&Command::new("cat").stdin(input.clone())).unwrap();
    assert!(process.take_stdin().is_none());
    let mut output = Vec::new();
    process.take_stdout().unwrap().read_to_end(&mut output).unwrap();
    assert!(output == input, "{} bytes came back", output.len());
}

#[test]
fn what_no_system_could_run_is_not_sent() {
    let (guest, told) = listening();
    let session = guest.session();
    for command in [
        Command::new(""),
        Command::from(Vec::<String>::new()),
        Command::shell("a\0b"),
        Command::new("a").arg("\0"),
        Command::new("a").env("A=B", ""),
        Command::new("a").env("", ""),
        Command::new("a").env("A", "\0"),
        Command::new("a").cwd("\0"),
    ] {
        let error = session.run(&command).unwrap_err();
        assert!(matches!(error, SessionError::InvalidCommand { .. }), "{command:?}: {error}");
    }
    let error = session.run(&Command::new("a").arg("x".repeat(1 << 20))).unwrap_err();
    assert!(matches!(error, SessionError::CommandTooLong { .. }), "{error}");
    drop(session);
    assert_eq!(told.try_recv().ok(), None);
}
