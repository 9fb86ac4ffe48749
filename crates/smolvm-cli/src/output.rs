//! [`Output`]: what goes to standard output, as text or as one JSON object.

use std::cell::RefCell;
use std::io::{self, Write as _};
use std::path::Path;

use serde::Serialize;

use crate::failure::Failure;
use crate::terminal::Terminal;

/// The version of the JSON shapes in docs/cli.md: it grows when one changes in a way that a
/// reader could notice, other than by new fields.
const SCHEMA: u32 = 1;

/// The frame of every JSON object.
#[derive(Serialize)]
struct Envelope<'a, B> {
    schema: u32,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a Failure>,
    #[serde(flatten)]
    body: Option<B>,
}

/// Standard output.
#[derive(Debug)]
pub(crate) struct Output {
    json: bool,
    terminal: Terminal,
    /// Why the rest of the output is not written.
    closed: RefCell<Option<io::Error>>,
}

impl Output {
    pub(crate) fn new(json: bool, terminal: Terminal) -> Self {
        Self { json, terminal, closed: RefCell::new(None) }
    }

    /// Whether results go out as JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Prints a text for people; nothing with `--json`.
    pub(crate) fn text(&self, text: &str) {
        if !self.json {
            self.write(|| {
                let mut stdout = anstream::AutoStream::auto(io::stdout());
                stdout.write_all(text.as_bytes())?;
                stdout.flush()
            });
        }
    }

    /// Prints a path as the bytes that it is made of, after `label`; nothing with `--json`.
    pub(crate) fn path(&self, label: &str, path: &Path) {
        let path = path.as_os_str().as_encoded_bytes();
        if !self.json {
            self.write(|| write_raw(&[label.as_bytes(), path, b"\n"].concat()));
        }
    }

    /// Prints bytes as they are; nothing with `--json`.
    pub(crate) fn bytes(&self, bytes: &[u8]) {
        if !self.json {
            self.write(|| write_raw(bytes));
        }
    }

    /// Prints the result of a command as JSON; nothing without `--json`.
    pub(crate) fn json(&self, body: &impl Serialize, failure: Option<&Failure>) {
        if self.json {
            self.write(|| write_raw(&envelope(Some(body), failure)));
        }
    }

    /// Prints the failure of a command that has no result.
    pub(crate) fn failure(&self, failure: &Failure) {
        if self.json {
            self.write(|| write_raw(&envelope(None::<()>, Some(failure))));
        } else {
            self.terminal.error(&failure.message);
        }
    }

    /// Says so if anything could not be written, except to a reader that had read enough.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        match self.closed.into_inner() {
            Some(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(Failure::output(&error))
            }
            _ => Ok(()),
        }
    }

    fn write(&self, print: impl FnOnce() -> io::Result<()>) {
        let mut closed = self.closed.borrow_mut();
        if closed.is_none() {
            *closed = self.terminal.suspend(print).err();
        }
    }
}

/// Prints a failure as JSON before there is an [`Output`].
pub(crate) fn print_json_failure(failure: &Failure) {
    // Standard output is the only place that this could be reported to.
    let _ = write_raw(&envelope(None::<()>, Some(failure)));
}

/// Writes bytes as they are, past what takes colours out.
fn write_raw(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout();
    stdout.write_all(bytes)?;
    stdout.flush()
}

fn envelope(body: Option<impl Serialize>, error: Option<&Failure>) -> Vec<u8> {
    let envelope = Envelope { schema: SCHEMA, ok: error.is_none(), error, body };
    // Strings, numbers and lists only: nothing here can fail to serialize.
    let mut line = serde_json::to_vec(&envelope).unwrap_or_default();
    line.push(b'\n');
    line
}
