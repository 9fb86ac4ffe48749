//! [`Reference`]: Python's `subprocess` on this host.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;

use super::row::{Outcome, Row};

/// A Python that runs rows, one after another. It ends when its input does.
#[derive(Debug)]
pub(crate) struct Reference {
    python: Child,
    rows: Option<ChildStdin>,
    outcomes: BufReader<ChildStdout>,
}

const SCRIPT: &str = include_str!("reference.py");

impl Reference {
    /// `None` where this host has no Python.
    pub(crate) fn start() -> Option<Self> {
        let python = Command::new("python3")
            .args(["-c", SCRIPT])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut python = match python {
            Ok(python) => python,
            Err(error) => {
                smolvm_testkit::skip(&format!("python3 cannot be run: {error}"));
                return None;
            }
        };
        let rows = python.stdin.take();
        let outcomes = BufReader::new(python.stdout.take().unwrap());
        Some(Self { python, rows, outcomes })
    }

    /// Runs a row on this host.
    pub(crate) fn run(&mut self, row: &Row, directory: &str) -> Outcome {
        parse(&self.ask(row, directory), row)
    }

    /// The same, in the words of the script: a line.
    pub(crate) fn ask(&mut self, row: &Row, directory: &str) -> String {
        let mut line = row.to_json(directory).to_string();
        line.push('\n');
        self.rows.as_mut().unwrap().write_all(line.as_bytes()).unwrap();
        let mut answer = String::new();
        self.outcomes.read_line(&mut answer).unwrap();
        answer
    }
}

/// What the script says of a row.
pub(crate) fn parse(answer: &str, row: &Row) -> Outcome {
    let answer: Value = serde_json::from_str(answer)
        .unwrap_or_else(|error| panic!("the reference failed at {}: {error}", row.name));
    Outcome::from_json(&answer)
}

impl Drop for Reference {
    fn drop(&mut self) {
        self.rows = None;
        let _ = self.python.wait();
    }
}
