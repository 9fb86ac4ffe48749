//! [`Client`]: a connection to the API of a running Firecracker, which is HTTP/1.1 over a Unix
//! socket, one request at a time.

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::super::connect::connect_before;
use super::api::{Fault, Method, Resource};

/// A connection to the API.
#[derive(Debug)]
pub(super) struct Client {
    stream: UnixStream,
    socket: PathBuf,
    deadline: Instant,
}

/// Why Firecracker was not told, or did not do it.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApiError {
    /// The socket failed, or Firecracker did not answer in time.
    #[error("its API on {}: {source}", socket.display())]
    Io {
        /// The API's socket.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What came is no answer.
    #[error("its API on {} answers with what is no HTTP: {reason}", socket.display())]
    Malformed {
        /// The API's socket.
        socket: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Firecracker refused.
    #[error("it refuses {request} (status {status}): {message}")]
    Refused {
        /// What it was told, such as `PUT /vsock`.
        request: String,
        /// The status of its answer.
        status: u16,
        /// What it says.
        message: String,
    },
}

/// What an answer says.
#[derive(Debug)]
struct Answer {
    status: u16,
    body: Vec<u8>,
}

/// No answer of Firecracker's is longer, in bytes.
const LONGEST: usize = 1 << 20;

/// The most fields that the head of an answer has.
const MOST_FIELDS: usize = 32;

impl Client {
    /// Connects to the API. All that is said on this connection must be over before `deadline`.
    pub(super) fn connect(socket: &Path, deadline: Instant) -> io::Result<Self> {
        let stream = connect_before(socket, deadline)?;
        Ok(Self { stream, socket: socket.to_owned(), deadline })
    }

    /// Has Firecracker take a value.
    pub(super) fn give<R: Resource>(&mut self, resource: &R) -> Result<(), ApiError> {
        self.exchange(R::METHOD, &resource.path(), Some(resource)).map(drop)
    }

    /// Asks for a value.
    pub(super) fn get<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, ApiError> {
        let body = self.exchange(Method::Get, path, None::<&()>)?;
        serde_json::from_slice(&body).map_err(|error| self.malformed(error))
    }

    fn exchange(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<Vec<u8>, ApiError> {
        let body = body.map(serde_json::to_vec).transpose();
        let body = body.map_err(|error| self.malformed(error))?.unwrap_or_default();
        let mut request = format!(
            "{} {path} HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            method.name(),
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(&body);
        self.within_deadline()?;
        // Where it has answered without reading all of it, the answer is what counts.
        let sent = self.stream.write_all(&request);
        let answer = match self.receive() {
            Err(error) => return Err(sent.err().map_or(error, |error| self.io(error))),
            Ok(answer) => answer,
        };
        if (200..300).contains(&answer.status) {
            return Ok(answer.body);
        }
        let message = match serde_json::from_slice::<Fault>(&answer.body) {
            Ok(fault) => fault.message,
            Err(_) => String::from_utf8_lossy(&answer.body).into_owned(),
        };
        let request = format!("{} {path}", method.name());
        Err(ApiError::Refused { request, status: answer.status, message })
    }

    fn receive(&mut self) -> Result<Answer, ApiError> {
        let mut bytes = Vec::new();
        loop {
            if let Some(answer) = parse(&bytes).map_err(|reason| self.malformed(reason))? {
                // Such as 100, which stands for "go on".
                if answer.0.status >= 200 {
                    return Ok(answer.0);
                }
                bytes.drain(..answer.1);
                continue;
            }
            if bytes.len() > LONGEST {
                return Err(self.malformed(format_args!("it is longer than {LONGEST} bytes")));
            }
            // Before every read: bytes that come one by one win no time.
            self.within_deadline()?;
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(self.io(io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => bytes.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.io(error)),
            }
        }
    }

    /// Has the next system calls give up at the deadline.
    fn within_deadline(&self) -> Result<(), ApiError> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left < Duration::from_micros(1) {
            return Err(self.io(io::ErrorKind::TimedOut.into()));
        }
        let set = self.stream.set_read_timeout(Some(left));
        set.and_then(|()| self.stream.set_write_timeout(Some(left))).map_err(|error| self.io(error))
    }

    fn io(&self, source: io::Error) -> ApiError {
        let source = match source.kind() {
            // As the kernel says it when a time-out of the socket has passed.
            io::ErrorKind::WouldBlock => io::ErrorKind::TimedOut.into(),
            _ => source,
        };
        ApiError::Io { socket: self.socket.clone(), source }
    }

    fn malformed(&self, reason: impl fmt::Display) -> ApiError {
        ApiError::Malformed { socket: self.socket.clone(), reason: reason.to_string() }
    }
}

/// The answer that these bytes begin with and its length, or `None` where more is to come.
fn parse(bytes: &[u8]) -> Result<Option<(Answer, usize)>, String> {
    let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
    let mut response = httparse::Response::new(&mut fields);
    let head = match response.parse(bytes) {
        Ok(httparse::Status::Complete(head)) => head,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let status = response.code.ok_or("it has no status")?;
    let mut length = 0;
    for field in response.headers.iter() {
        if field.name.eq_ignore_ascii_case("content-length") {
            let text = str::from_utf8(field.value).ok().and_then(|text| text.trim().parse().ok());
            length = text.filter(|length| *length <= LONGEST).ok_or("its length is none")?;
        } else if field.name.eq_ignore_ascii_case("transfer-encoding") {
            return Err("its body is in pieces, as Firecracker sends none".to_owned());
        }
    }
    let end = head + length;
    let body = bytes.get(head..end);
    Ok(body.map(|body| (Answer { status, body: body.to_vec() }, end)))
}

#[cfg(test)]
mod tests {
    use std::io::BufRead as _;
    use std::io::BufReader;
    use std::os::unix::net::UnixListener;
    use std::thread::{self, JoinHandle};

    use super::super::api::{EntropyDevice, InstanceInfo, Vsock};
    use super::*;

    /// A server that reads requests and gives these answers, piece by piece; then it waits until
    /// the client is gone. What it was told comes back in the end.
    fn serve(socket: &Path, answers: &'static [&'static [&'static str]]) -> JoinHandle<String> {
        let listener = UnixListener::bind(socket).unwrap();
        thread::spawn(move || {
            let mut stream = BufReader::new(listener.accept().unwrap().0);
            let mut told = String::new();
            for pieces in answers {
                let mut length = 0;
                loop {
                    let mut line = String::new();
                    stream.read_line(&mut line).unwrap();
                    told.push_str(&line);
                    if let Some(value) = line.strip_prefix("Content-Length: ") {
                        length = value.trim().parse().unwrap();
                    }
                    if line == "\r\n" {
                        break;
                    }
                }
                let mut body = vec![0; length];
                stream.read_exact(&mut body).unwrap();
                told.push_str(&String::from_utf8(body).unwrap());
                for piece in *pieces {
                    stream.get_mut().write_all(piece.as_bytes()).unwrap();
                    thread::sleep(Duration::from_millis(2));
                }
            }
            let _ = stream.read(&mut [0]);
            told
        })
    }

    fn within(time: Duration) -> Instant {
        Instant::now() + time
    }

    #[test]
    fn values_are_given_and_asked_for_on_one_connection() {
        let temp = tempfile::tempdir().unwrap();
        let socket = temp.path().join("api.sock");
        let server = serve(
            &socket,
            &[
                &[
                    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 \r\nServer: F",
                    "irecracker API\r\n\r\n",
                ],
                &[
                    "HTTP/1.1 200 OK\r\nContent-Length: 35\r\n\r\n",
                    "{\"state\": \"Running\", ",
                    "\"later\": true}",
                ],
                &["HTTP/1.1 400 \r\ncontent-length: 30\r\n\r\n{\"fault_message\":\"No device.\"}"],
                &["HTTP/1.1 400 \r\nContent-Length: 3\r\n\r\nNo."],
            ],
        );
        let mut client = Client::connect(&socket, within(Duration::from_mins(1))).unwrap();
        client.give(&Vsock { guest_cid: 3, uds_path: "/v.sock".into() }).unwrap();
        assert_eq!(client.get::<InstanceInfo>("/").unwrap().state, "Running");
        let error = client.give(&EntropyDevice {}).unwrap_err().to_string();
        assert_eq!(error, "it refuses PUT /entropy (status 400): No device.");
        let error = client.give(&EntropyDevice {}).unwrap_err().to_string();
        assert!(error.ends_with(": No."), "{error}");
        drop(client);
        let told = server.join().unwrap();
        assert!(told.starts_with("PUT /vsock HTTP/1.1\r\nHost: localhost\r\n"), "{told}");
        assert!(
            told.contains("\r\n\r\n{\"guest_cid\":3,\"uds_path\":\"/v.sock\"}GET / "),
            "{told}"
        );
    }

    #[test]
    fn what_is_no_answer_is_an_error_and_no_panic() {
        for answer in [
            &["SSH-2.0-OpenSSH\r\n"],
            &["HTTP/1.1 204 \r\nContent-Length: -1\r\n\r\n"],
            &["HTTP/1.1 204 \r\nContent-Length: 99999999999\r\n\r\n"],
            &["HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"],
        ] {
            let temp = tempfile::tempdir().unwrap();
            let socket = temp.path().join("api.sock");
            let answers: &'static [&'static [&'static str]] = Box::leak(Box::new([&answer[..]]));
            let server = serve(&socket, answers);
            let mut client = Client::connect(&socket, within(Duration::from_mins(1))).unwrap();
            let error = client.give(&EntropyDevice {}).unwrap_err();
            assert!(matches!(error, ApiError::Malformed { .. }), "{error}");
            drop(client);
            server.join().unwrap();
        }
    }

    #[test]
    fn who_answers_nothing_is_given_up() {
        let temp = tempfile::tempdir().unwrap();
        let socket = temp.path().join("api.sock");
        let _listener = UnixListener::bind(&socket).unwrap();
        let mut client = Client::connect(&socket, within(Duration::from_millis(50))).unwrap();
        let error = client.give(&EntropyDevice {}).unwrap_err().to_string();
        assert!(error.contains("api.sock: timed out"), "{error}");
    }
}
