//! Callers who are interrupted while a guest keeps them waiting.

use std::path::Path;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use smolvm_image::CancelToken;
use smolvm_protocol::{Reply, Request};

use super::guest::Guest;
use crate::session::{Command, Session, SessionError};

/// No test takes so long, unless nothing is cancelled.
const LONG: Duration = Duration::from_mins(5);

/// A guest that starts commands, passes on what it hears, and ends nothing.
fn endless() -> (Guest, Receiver<Request>) {
    let (tell, told) = mpsc::channel();
    let guest = Guest::start(move |mut line| {
        while let Some((channel, request)) = line.next() {
            if let Request::Exec(_) = request {
                line.say(channel, &Reply::Started(7));
            }
            let _ = tell.send(request);
        }
    });
    (guest, told)
}

/// Cancels a call once the guest has heard of it.
fn cancel_in_the_middle<T: Send>(
    told: &Receiver<Request>,
    session: &Session,
    call: impl FnOnce(&Session) -> Result<T, SessionError> + Send,
) -> SessionError {
    let cancel = CancelToken::new();
    let cancellable = session.cancelled_by(&cancel);
    thread::scope(|scope| {
        let calling = scope.spawn(|| call(&cancellable));
        told.recv_timeout(LONG).unwrap();
        cancel.cancel();
        calling.join().unwrap().err().unwrap()
    })
}

#[test]
fn a_command_of_an_interrupted_caller_is_ended() {
    let (guest, told) = endless();
    let session = guest.session();
    let command = Command::new("sleep").timeout(LONG);
    let error = cancel_in_the_middle(&told, &session, |session| session.run(&command));
    assert!(matches!(error, SessionError::Cancelled), "{error}");
    assert_eq!(told.recv_timeout(LONG).unwrap(), Request::Close);
    assert!(session.is_open(), "the session is for others, too");
}

#[test]
fn a_wait_ends_when_it_is_cancelled() {
    let (guest, told) = endless();
    let session = guest.session();
    let error = cancel_in_the_middle(&told, &session, |session| session.settle(LONG));
    assert!(matches!(error, SessionError::Cancelled), "{error}");
}

#[test]
fn a_copy_ends_when_it_is_cancelled() {
    let temp = tempfile::tempdir().unwrap();
    let (guest, told) = endless();
    let session = guest.session();
    let out = |session: &Session| session.copy_from(Path::new("/x"), &temp.path().join("x"));
    let error = cancel_in_the_middle(&told, &session, out);
    assert!(matches!(error, SessionError::Cancelled), "{error}");

    // More than the guest takes without saying a word.
    let large = temp.path().join("large");
    fs_err::write(&large, vec![7; 4 << 20]).unwrap();
    let into = |session: &Session| session.copy_to(&large, Path::new("/x/"));
    let error = cancel_in_the_middle(&told, &session, into);
    assert!(matches!(error, SessionError::Cancelled), "{error}");
}

#[test]
fn a_process_outlives_the_token_of_its_start() {
    let (guest, told) = endless();
    let cancel = CancelToken::new();
    let process = guest.session().cancelled_by(&cancel).spawn(&Command::new("sleep")).unwrap();
    cancel.cancel();
    assert!(matches!(told.recv_timeout(LONG).unwrap(), Request::Exec(_)));
    let output = process.take_stdout().unwrap();
    let read = output.read_within(&mut [0; 8], Duration::from_millis(1)).unwrap();
    assert_eq!(read, None, "nothing came, and it has not ended");
    assert_eq!(process.try_wait().unwrap(), None);
}

#[test]
fn a_connection_to_a_silent_agent_ends_when_it_is_cancelled() {
    let (tell, told) = mpsc::channel();
    let guest = Guest::rude(move |stream| {
        let _ = tell.send(());
        thread::sleep(LONG);
        drop(stream);
    });
    let cancel = CancelToken::new();
    thread::scope(|scope| {
        let socket = guest.socket();
        let connecting = scope.spawn(|| {
            let deadline = Instant::now() + LONG;
            let socket = socket;
            Session::connect_unless(&socket, deadline, &cancel)
        });
        told.recv_timeout(LONG).unwrap();
        cancel.cancel();
        let error = connecting.join().unwrap().err().unwrap();
        assert!(matches!(error, SessionError::Cancelled), "{error}");
    });
}
