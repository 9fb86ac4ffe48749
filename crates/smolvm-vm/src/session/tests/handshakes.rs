//! How a session begins, and with whom it does not.

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use smolvm_protocol::{Preamble, Reply, SESSION_CHANNEL, Side};

use super::guest::{Guest, Line, welcome};
use crate::session::{Session, SessionError};

/// Long enough for a thread to answer.
const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(200);

/// What one hears who connects to an agent that answers the host's preamble in this way.
fn answer_to(answer: fn(&mut UnixStream, [u8; 16]), patience: Duration) -> SessionError {
    let guest = Guest::rude(move |mut stream| {
        let (nonce, _) = Line::hear_host(&mut stream);
        answer(&mut stream, nonce);
    });
    guest.connect(patience).unwrap_err()
}

/// Says nothing more, until the host hangs up.
fn hold(mut stream: &UnixStream) {
    std::io::copy(&mut stream, &mut std::io::sink()).unwrap();
}

#[test]
fn a_welcome_is_heard() {
    let guest = Guest::start(|mut line| line.drain());
    let session = guest.session();
    assert_eq!(*session.welcome(), welcome());
    assert!(session.is_open());
}

#[test]
fn nobody_is_there() {
    let missing = Path::new("/no/such/agent.sock");
    let error = Session::connect(missing, Instant::now() + LONG).unwrap_err();
    assert!(matches!(error, SessionError::Connect { .. }), "{error}");
    assert!(error.to_string().contains("/no/such/agent.sock"), "{error}");
}

#[test]
fn one_who_says_nothing_is_not_waited_for_beyond_the_deadline() {
    let error = answer_to(|stream, _| hold(stream), SHORT);
    assert!(matches!(error, SessionError::NotReady { .. }), "{error}");
}

#[test]
fn one_who_never_accepts_is_not_waited_for_beyond_the_deadline() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("agent.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let _first = UnixStream::connect(&path).unwrap();
    let error = Session::connect(&path, Instant::now() + SHORT).unwrap_err();
    assert!(matches!(error, SessionError::NotReady { .. }), "{error}");
}

#[test]
fn one_who_never_comes_to_the_point_is_not_waited_for_beyond_the_deadline() {
    let babble = |stream: &mut UnixStream, _| while stream.write_all(b"SMOLVM-GUE").is_ok() {};
    let error = answer_to(babble, SHORT);
    assert!(matches!(error, SessionError::NotReady { .. }), "{error}");
}

#[test]
fn an_answer_to_somebody_else_is_none() {
    let to_another = |stream: &mut UnixStream, nonce: [u8; 16]| {
        let preamble = Preamble::new(Side::Guest, nonce.map(|byte| !byte));
        stream.write_all(&preamble.encode()).unwrap();
        hold(stream);
    };
    let error = answer_to(to_another, SHORT);
    assert!(matches!(error, SessionError::NotReady { .. }), "{error}");
}

#[test]
fn one_who_hangs_up_has_ended() {
    let error = answer_to(|_, _| {}, LONG);
    assert!(matches!(error, SessionError::Disconnected), "{error}");
}

#[test]
fn one_who_is_not_welcoming_is_not_believed() {
    fn after_preamble(stream: &mut UnixStream, nonce: [u8; 16], channel: u32, reply: &Reply) {
        let mut wire = Preamble::new(Side::Guest, nonce).encode().to_vec();
        reply.encode(channel, &mut wire);
        stream.write_all(&wire).unwrap();
        hold(stream);
    }
    let answers: [fn(&mut UnixStream, [u8; 16]); 4] = [
        // A version that never was.
        |stream, nonce| {
            let mut preamble = Preamble::new(Side::Guest, nonce).encode();
            preamble[12..14].copy_from_slice(&[0, 0]);
            stream.write_all(&preamble).unwrap();
            hold(stream);
        },
        // A frame that claims to be longer than any.
        |stream, nonce| {
            stream.write_all(&Preamble::new(Side::Guest, nonce).encode()).unwrap();
            stream.write_all(&[0xff; 64]).unwrap();
            hold(stream);
        },
        // Something else first.
        |stream, nonce| after_preamble(stream, nonce, SESSION_CHANNEL, &Reply::Done),
        // The welcome, where a command would be answered.
        |stream, nonce| after_preamble(stream, nonce, 1, &Reply::Welcome(welcome())),
    ];
    for (number, answer) in answers.into_iter().enumerate() {
        let error = answer_to(answer, LONG);
        assert!(matches!(error, SessionError::Protocol(_)), "{number}: {error}");
    }
}
