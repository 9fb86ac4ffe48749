//! Header fields in the order they were sent, and the reading of a message head off a socket.

use std::io::{self, Read};

/// A head longer than this is refused; no client under test sends one.
const HEAD_LIMIT: usize = 64 * 1024;

/// The header fields of one message, as sent: order, spelling and repetitions are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, String)>);

impl Headers {
    /// The value of the first field of that name, in any case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The values of all fields of that name, in the order they were sent.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.iter()
            .filter(move |(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// All fields as (name, value).
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Adds a field, next to those of the same name.
    pub(crate) fn push(&mut self, name: &str, value: &str) {
        self.0.push((name.to_owned(), value.to_owned()));
    }

    /// Puts one field in the place of all those of that name.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.remove(name);
        self.push(name, value);
    }

    /// Removes all fields of that name.
    pub(crate) fn remove(&mut self, name: &str) {
        self.0.retain(|(field, _)| !field.eq_ignore_ascii_case(name));
    }

    /// The fields as they go on the wire, without the empty line that ends a head.
    pub(crate) fn to_wire(&self) -> String {
        self.iter().fold(String::new(), |wire, (name, value)| wire + name + ": " + value + "\r\n")
    }
}

/// The first line of a message and its header fields (RFC 9112, section 2.1).
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) start_line: String,
    pub(crate) headers: Headers,
}

impl Head {
    /// Reads one head and not a byte more; `None` when the peer closed without sending one.
    pub(crate) fn read(stream: &mut impl Read) -> io::Result<Option<Self>> {
        let mut bytes = Vec::with_capacity(512);
        let mut byte = [0];
        while !bytes.ends_with(b"\r\n\r\n") {
            if stream.read(&mut byte)? == 0 || bytes.len() == HEAD_LIMIT {
                return Ok(None);
            }
            bytes.push(byte[0]);
        }
        let text = String::from_utf8_lossy(&bytes);
        let mut lines = text.split("\r\n");
        let start_line = lines.next().unwrap_or_default().to_owned();
        let mut headers = Headers::default();
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            headers.push(name, value.trim());
        }
        Ok(Some(Self { start_line, headers }))
    }

    /// The word of the first line at `index`: method, target and version of a request.
    pub(crate) fn word(&self, index: usize) -> &str {
        self.start_line.split(' ').nth(index).unwrap_or_default()
    }
}
