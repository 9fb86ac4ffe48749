//! Where bodies end, and what happens when they end elsewhere.

use std::io::Write;
use std::time::Duration;

use smolvm_testkit::{Fault, Route, Server, content};

use super::super::{Client, ClientConfig, Framing};
use super::peer::{Peer, read_request};
use super::*;

const SIZE: u64 = 200_000;

fn serve(faults: impl IntoIterator<Item = Fault>) -> (Server, Vec<u8>) {
    let server = Server::start();
    let bytes = content::noise(7, SIZE.try_into().unwrap());
    server.route("/x", faults.into_iter().fold(Route::new(bytes.clone()), Route::fault));
    (server, bytes)
}

/// Behaviour 15: a length that cannot be read, is repeated or absent is no hint of anything.
#[test]
fn every_framing_has_the_same_bytes() {
    let length = |text: &str| Fault::ContentLength(text.to_owned());
    for (fault, framing) in [
        (None, Framing::Length(SIZE)),
        (Some(Fault::ExtraBytes(5000)), Framing::Length(SIZE)),
        (Some(Fault::Chunked), Framing::Chunked),
        (Some(Fault::NoContentLength), Framing::UntilClose),
        (Some(length("many")), Framing::UntilClose),
        (Some(length("")), Framing::UntilClose),
        (Some(length("-5")), Framing::UntilClose),
        (Some(length("+5")), Framing::UntilClose),
        (Some(length("5 5")), Framing::UntilClose),
        (Some(length("5, 5")), Framing::UntilClose),
        (Some(length("99999999999999999999")), Framing::UntilClose),
        (Some(Fault::RepeatContentLength("5".to_owned())), Framing::UntilClose),
        (Some(Fault::RepeatContentLength(SIZE.to_string())), Framing::UntilClose),
        (Some(Fault::Interim(103)), Framing::Length(SIZE)),
    ] {
        let (server, bytes) = serve(fault.clone());
        let mut response = get(&client(), &server.url("/x")).unwrap();
        assert_eq!((response.status, response.body.framing()), (200, framing), "{fault:?}");
        assert_eq!(read_all(&mut response).unwrap(), bytes, "{fault:?}");
        assert_eq!(response.body.read(&mut [0; 9]).unwrap(), 0, "complete stays complete");
    }
}

/// Behaviour 15: too short a body is a failure to resume, never a truncated success.
#[test]
fn a_body_that_is_cut_off_is_an_error() {
    for (faults, expected) in [
        (vec![Fault::CutAt(70_000)], Some(SIZE)),
        (vec![Fault::CutAt(70_000), Fault::Chunked], None),
    ] {
        let (server, bytes) = serve(faults);
        let mut response = get(&client(), &server.url("/x")).unwrap();
        let mut buffer = vec![0; bytes.len()];
        let mut received = 0;
        let error = loop {
            match response.body.read(&mut buffer[received..]) {
                Ok(0) => panic!("a truncated success"),
                Ok(read) => received += read,
                Err(error) => break error,
            }
        };
        assert_eq!((received, &buffer[..received]), (70_000, &bytes[..70_000]));
        let HttpError::ClosedEarly { received: 70_000, expected: named, .. } = error else {
            panic!("{error:?}");
        };
        assert_eq!(named, expected);
        assert!(error.is_retryable());
    }
}

/// Behaviour 12: a connection that is reset may be retried.
#[test]
fn a_reset_connection_is_an_error() {
    for framing in [None, Some(Fault::Chunked), Some(Fault::NoContentLength)] {
        let (server, _) = serve(framing.into_iter().chain([Fault::ResetAt(70_000)]));
        let error = download(&client(), &server.url("/x")).unwrap_err();
        assert!(matches!(error, HttpError::Broken { .. }) && error.is_retryable(), "{error:?}");
    }
}

#[test]
fn small_chunks_and_their_end_are_found() {
    let chunks = "1;x=y\r\na\r\n3\r\nbcd\r\n0\r\nTrailer: t\r\n\r\nnothing of this";
    let peer = Peer::answering(format!(
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: Chunked\r\n\r\n{chunks}"
    ));
    assert_eq!(download(&client(), &peer.url()).unwrap(), b"abcd");
}

#[test]
fn a_damaged_or_unknown_coding_is_refused() {
    let answer = |coding: &str, body: &str| {
        let head = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: {coding}\r\n\r\n");
        Peer::answering(head + body)
    };
    let error = download(&client(), &answer("chunked", "1\r\nab\r\n").url()).unwrap_err();
    assert!(matches!(error, HttpError::Chunk { .. }), "{error:?}");
    let error = download(&client(), &answer("gzip, chunked", "0\r\n\r\n").url()).unwrap_err();
    assert!(report(&error).contains("gzip, chunked"), "{error:?}");
    let unharmed = download(&client(), &answer("identity", "ab").url());
    assert_eq!(unharmed.unwrap(), b"ab");
}

#[test]
fn some_answers_have_no_body() {
    for status in [204, 304] {
        let peer = Peer::answering(format!("HTTP/1.1 {status} x\r\nContent-Length: 5\r\n\r\n"));
        let mut response = get(&client(), &peer.url()).unwrap();
        assert_eq!((response.status, read_all(&mut response).unwrap().len()), (status, 0));
    }
}

/// Behaviour 12: a stall is an error that may be retried.
#[test]
fn silence_is_a_stall() {
    let head_that_drips = Peer::start(|mut stream| {
        read_request(&mut stream);
        let head = b"HTTP/1.1 200 OK\r\nX: ".iter().chain(std::iter::repeat(&b'x'));
        // Ends when the client has hung up.
        for byte in head {
            if stream.write_all(&[*byte]).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    let (body, _) = serve([Fault::stall_at(70_000)]);
    let (chunked, _) = serve([Fault::stall_at(70_000), Fault::Chunked]);
    let (head, _) = serve([Fault::StallInHead]);
    for url in [body.url("/x"), chunked.url("/x"), head.url("/x"), head_that_drips.url()] {
        let error = download(&impatient_client(), &url).unwrap_err();
        assert!(matches!(error, HttpError::Stalled { .. }) && error.is_retryable(), "{error:?}");
        assert!(error.to_string().contains(&url), "{error}");
    }
}

/// Behaviour 12: the stall time is never a cap on the whole transfer.
#[test]
fn a_slow_body_is_no_stall() {
    let server = Server::start();
    let slow = Fault::Throttle { bytes_per_second: 10 };
    server.route("/x", Route::new(vec![1; 15]).fault(slow));
    let stall = Duration::from_secs(1);
    let client = Client::new(ClientConfig { stall, ..ClientConfig::default() });
    assert_eq!(download(&client, &server.url("/x")).unwrap(), [1; 15]);
}

/// Behaviour 12: a connection that is closed before the answer may be retried.
#[test]
fn no_answer_may_be_retried_and_another_protocol_not() {
    for fault in [Fault::CloseUnanswered, Fault::CutInHead] {
        let (server, _) = serve([fault]);
        let error = get(&client(), &server.url("/x")).unwrap_err();
        assert!(error.is_retryable(), "{error:?}");
    }
    let (endless, _) = serve([Fault::EndlessHead]);
    let (other, _) = serve([Fault::RawHead(b"220 ftp ready\r\n".to_vec())]);
    for server in [endless, other] {
        let error = get(&client(), &server.url("/x")).unwrap_err();
        assert!(matches!(error, HttpError::Head { .. }) && !error.is_retryable(), "{error:?}");
    }
}
