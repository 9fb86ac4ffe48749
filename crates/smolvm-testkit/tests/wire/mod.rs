//! A client that hides nothing: it shows the bytes that came and how the connection ended.

#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// What came back for one request on one connection.
pub(crate) struct Reply {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    pub(crate) end: End,
}

/// How the connection ended, seen from the client.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    Closed,
    Reset,
    /// Nothing came for the client's whole patience; the connection is still open.
    Silent,
}

impl Reply {
    pub(crate) fn status(&self) -> u16 {
        self.head[9..12].parse().expect("a status line")
    }

    /// All values of a header field.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.head
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(": "))
            .filter(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
            .collect()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }
}

/// Sends a GET with these extra header lines and reads until the connection ends.
pub(crate) fn get(host: &str, target: &str, headers: &[&str]) -> Reply {
    send(host, "GET", target, headers)
}

/// Sends a request with these extra header lines and reads until the connection ends.
pub(crate) fn send(host: &str, method: &str, target: &str, headers: &[&str]) -> Reply {
    let mut stream = TcpStream::connect(host).expect("a connection");
    let mut request = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n");
    for header in headers.iter().chain(&["Connection: close"]) {
        request.push_str(header);
        request.push_str("\r\n");
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).expect("a request");
    let (bytes, end) = read_all(&mut stream, usize::MAX);
    split(&bytes, end)
}

/// Reads until the end, until silence, or until at least `enough` bytes are there.
pub(crate) fn read_all(stream: &mut TcpStream, enough: usize) -> (Vec<u8>, End) {
    // Long enough that a busy machine is not taken for a stall.
    stream.set_read_timeout(Some(Duration::from_millis(1500))).expect("a timeout");
    let (mut bytes, mut block) = (Vec::new(), vec![0; 64 * 1024]);
    while bytes.len() < enough {
        match stream.read(&mut block) {
            Ok(0) => return (bytes, End::Closed),
            Ok(count) => bytes.extend_from_slice(&block[..count]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return (bytes, End::Reset),
            Err(_) => return (bytes, End::Silent),
        }
    }
    (bytes, End::Silent)
}

/// Splits what came into head and body.
pub(crate) fn split(bytes: &[u8], end: End) -> Reply {
    let at = bytes.windows(4).position(|four| four == b"\r\n\r\n");
    let (head, body) = bytes.split_at(at.map_or(bytes.len(), |at| at + 4));
    Reply { head: String::from_utf8_lossy(head).into_owned(), body: body.to_vec(), end }
}
