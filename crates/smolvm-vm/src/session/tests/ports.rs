//! Ports of the host that lead to guests which do not behave.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::mpsc;
use std::time::Duration;

use smolvm_protocol::{Failure, FailureKind, Reply, Request, Stream};

use super::guest::Guest;
use crate::session::SessionError;

const LONG: Duration = Duration::from_secs(20);

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream
}

/// Whether the other side has ended the connection, in one way or another.
fn has_ended(mut stream: &TcpStream) -> bool {
    match stream.read(&mut [0; 16]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

#[test]
fn what_the_guest_refuses_is_closed() {
    let guest = Guest::answering(|line, channel, _| {
        let message = "nobody listens".to_owned();
        let kind = FailureKind::ConnectionRefused;
        line.say(channel, &Reply::Failed(Failure { kind, message }));
    });
    let forward = guest.session().forward(80, None).unwrap();
    for _ in 0..3 {
        assert!(has_ended(&connect(forward.host_port())));
    }
}

#[test]
fn each_half_ends_by_itself() {
    let guest = Guest::start(|mut line| {
        let mut heard = Vec::new();
        while let Some((channel, request)) = line.next() {
            match request {
                Request::Connect(port) => {
                    assert_eq!(port, 80);
                    line.say(channel, &Reply::Started(0));
                }
                Request::Data(bytes) => heard.extend_from_slice(&bytes),
                Request::End => {
                    line.say(channel, &Reply::Data(Stream::Stdout, std::mem::take(&mut heard)));
                    line.say(channel, &Reply::End(Stream::Stdout));
                    line.say(channel, &Reply::Done);
                }
                _ => {}
            }
        }
    });
    let forward = guest.session().forward(80, Some(0)).unwrap();
    let mut stream = connect(forward.host_port());
    stream.write_all(b"question").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "question");
}

#[test]
fn connections_end_with_the_port() {
    // The guest never says another word.
    let (tell, told) = mpsc::channel();
    let guest = Guest::start(move |mut line| {
        while let Some((channel, request)) = line.next() {
            match request {
                Request::Connect(_) => assert!(line.say(channel, &Reply::Started(0))),
                request => tell.send(request).unwrap(),
            }
        }
    });
    let session = guest.session();
    let forward = session.forward(80, None).unwrap();
    let port = forward.host_port();
    let mut streams: Vec<TcpStream> = (0..3).map(|_| connect(port)).collect();
    for stream in &mut streams {
        stream.write_all(b"x").unwrap();
        assert_eq!(told.recv_timeout(LONG).unwrap(), Request::Data(b"x".to_vec()));
    }
    drop(forward);
    assert!(streams.iter().all(has_ended));
    for _ in &streams {
        assert_eq!(told.recv_timeout(LONG).unwrap(), Request::Close);
    }
    TcpStream::connect(("127.0.0.1", port)).unwrap_err();
    assert!(session.is_open());
}

#[test]
fn connections_end_with_the_session() {
    let guest = Guest::start(|mut line| {
        let channel = line.opener().unwrap();
        line.say(channel, &Reply::Started(0));
        line.next();
    });
    let forward = guest.session().forward(80, None).unwrap();
    let mut stream = connect(forward.host_port());
    stream.write_all(b"x").unwrap();
    assert!(has_ended(&stream));
}

#[test]
fn only_this_machine_reaches_a_port() {
    let guest = Guest::start(|mut line| line.drain());
    let session = guest.session();
    let forward = session.forward(80, None).unwrap();
    // Another address of the same machine.
    TcpStream::connect(("127.0.0.2", forward.host_port())).unwrap_err();
    let error = session.forward(80, Some(forward.host_port())).unwrap_err();
    assert!(matches!(error, SessionError::Forward { .. }), "{error}");
    assert!(error.to_string().contains(&forward.host_port().to_string()), "{error}");
}
