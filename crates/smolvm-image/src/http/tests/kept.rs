//! Connections that are used again.

use std::io::Write;

use super::peer::{Peer, read_request};
use super::{Client, client, read_all};
use crate::cancel::CancelToken;
use crate::http::Kept;

fn download(client: &Client, url: &str, kept: &Kept) -> Vec<u8> {
    let url = url.parse().unwrap();
    read_all(&mut client.get(&url, &[], Some(kept), &CancelToken::new()).unwrap()).unwrap()
}

#[test]
fn a_connection_is_used_again_and_not_asked_to_close() {
    let peer = Peer::start(|mut stream| {
        let answers = [
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none",
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nthree",
        ];
        answers.map(|answer| {
            let request = read_request(&mut stream);
            stream.write_all(answer.as_bytes()).unwrap();
            request
        })
    });
    let (client, kept) = (client(), Kept::default());
    for body in ["one", "", "three"] {
        assert_eq!(download(&client, &peer.url(), &kept), body.as_bytes());
    }
    for request in peer.join() {
        assert!(!request.to_ascii_lowercase().contains("connection:"), "{request}");
    }
}

/// What the first answer says, what the second connection gets to hear.
#[test]
fn a_connection_that_may_not_go_on_is_not_used_again() {
    for answer in [
        "HTTP/1.1 200 OK\r\nConnection: foo, Close\r\nContent-Length: 3\r\n\r\none",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n0\r\n\r\n",
        "HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\none",
        // It will be closed, but says nothing of it.
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none",
        // Bytes that nobody has asked for would be taken for the next answer.
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\noneHTTP/1.1 200 OK\r\n\r\nbad",
    ] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            for answer in [answer, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\ntwo"] {
                let mut stream = listener.accept().unwrap().0;
                read_request(&mut stream);
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        let (client, kept) = (client(), Kept::default());
        assert_eq!(download(&client, &url, &kept), b"one", "{answer}");
        assert_eq!(download(&client, &url, &kept), b"two", "{answer}");
        server.join().unwrap();
    }
}

/// A body that was not read to its end, and another server.
#[test]
fn only_what_was_read_to_the_end_is_used_again_and_only_for_the_same_server() {
    let (client, kept) = (client(), Kept::default());
    let short = Peer::start(|mut stream| {
        read_request(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nunrea").unwrap();
        read_request(&mut stream)
    });
    let url = short.url().parse().unwrap();
    drop(client.get(&url, &[], Some(&kept), &CancelToken::new()).unwrap());
    assert_eq!(short.join(), "");

    let one = Peer::start(|mut stream| {
        read_request(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none").unwrap();
        read_request(&mut stream)
    });
    let other = Peer::answering("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nother");
    assert_eq!(download(&client, &one.url(), &kept), b"one");
    assert_eq!(download(&client, &other.url(), &kept), b"other");
    drop(kept);
    assert_eq!(one.join(), "", "it was asked for nothing else");
}
