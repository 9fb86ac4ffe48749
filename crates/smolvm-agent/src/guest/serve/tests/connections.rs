//! Connections to ports of the guest.

use std::io::{Read as _, Write as _};
use std::net::{Ipv6Addr, TcpListener};
use std::thread;

use smolvm_protocol::{FailureKind, Reply, Request, Stream};
use smolvm_testkit::content::noise;
use smolvm_testkit::skip;

use super::host::Host;

/// A server that answers one connection with all that was sent to it.
fn echo(listener: TcpListener) -> u16 {
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut received = Vec::new();
        stream.read_to_end(&mut received).unwrap();
        stream.write_all(&received).unwrap();
    });
    port
}

#[test]
fn a_connection_carries_both_directions_and_their_ends() {
    let mut host = Host::connect();
    let port = echo(TcpListener::bind("127.0.0.1:0").unwrap());
    let channel = host.open(&Request::Connect(port));
    assert_eq!(host.reply(channel), Reply::Started(0));
    let sent = noise(3, 3 * 1024 * 1024);
    // The server answers only after the end of what is sent.
    let received = host.pump(channel, &sent);
    assert!(received == sent, "{} of {} bytes", received.len(), sent.len());
}

#[test]
fn a_server_of_ipv6_alone_is_reached() {
    let Ok(listener) = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) else {
        return skip("this machine has no IPv6");
    };
    let mut host = Host::connect();
    let port = echo(listener);
    let channel = host.open(&Request::Connect(port));
    assert_eq!(host.pump(channel, b"hello"), b"hello");
}

#[test]
fn where_nobody_listens_there_is_no_connection() {
    let mut host = Host::connect();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let channel = host.open(&Request::Connect(port));
    // What the host sends before it has heard of it does no harm.
    host.send(channel, &Request::Data(b"hello".to_vec()));
    match host.reply(channel) {
        Reply::Failed(failure) => {
            assert_eq!(failure.kind, FailureKind::ConnectionRefused);
            assert!(failure.message.contains(&port.to_string()), "{failure}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(host.ask(&Request::Ping), Reply::Done);
}

#[test]
fn a_server_that_goes_on_sending_does_not_hold_up_the_end() {
    let mut host = Host::connect();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        while stream.write_all(&[0; 4096]).is_ok() {}
    });
    let channel = host.open(&Request::Connect(port));
    assert_eq!(host.reply(channel), Reply::Started(0));
    assert!(matches!(host.reply(channel), Reply::Data(Stream::Stdout, _)));
    host.send(channel, &Request::Close);
    while !host.reply(channel).is_final() {}
    server.join().unwrap();
}
