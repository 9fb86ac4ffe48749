//! [`Row`]: a command of the table, with all that is around it; [`Outcome`]: what became of it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::time::Duration;

use serde_json::{Value, json};
use smolvm_vm::{Command, CommandResult, SessionError, Vm, VmError};

/// One command, for both sides.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) name: String,
    line: Line,
    stdin: Option<Vec<u8>>,
    env: Vec<(Vec<u8>, Vec<u8>)>,
    /// Below the directory of the test, or absolute.
    cwd: &'static str,
    timeout: Duration,
    pub(crate) stderr: Stderr,
}

#[derive(Debug, Clone)]
enum Line {
    Shell(Vec<u8>),
    Argv(Vec<Vec<u8>>),
}

/// How much of standard error has to be the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stderr {
    Exact,
    /// The words are those of a shell or of coreutils, whose versions may differ, and a shell
    /// begins them with its own name: `/bin/sh` where subprocess starts it, `sh` in a guest. Only
    /// whether there are any is compared.
    AnyWords,
}

/// How a command ended, in the words of `subprocess`, and what it wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) end: String,
    pub(crate) stdout: Output,
    pub(crate) stderr: Output,
}

/// What a stream has carried, by its digest: it may be long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Output {
    pub(crate) length: u64,
    pub(crate) sha256: String,
    pub(crate) shown: String,
}

/// What a guest sets for every command of root. The reference gets the same.
const LOGIN: [(&str, &str); 6] = [
    ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    ("HOME", "/root"),
    ("USER", "root"),
    ("LOGNAME", "root"),
    ("SHELL", "/bin/bash"),
    ("LANG", "C.UTF-8"),
];
/// How much of an output is shown where it differs, in bytes.
const SHOWN: usize = 2000;
/// More than any row writes.
const MAX_OUTPUT: u64 = 256 << 20;
/// Longer than any row takes that is not about a time-out, in a guest without KVM.
const PATIENCE: Duration = Duration::from_mins(4);

/// A line for the shell.
pub(crate) fn shell(name: &str, line: impl AsRef<[u8]>) -> Row {
    Row::new(name, Line::Shell(line.as_ref().to_vec()))
}

/// A program and its arguments.
pub(crate) fn argv<A: AsRef<[u8]>>(name: &str, arguments: impl IntoIterator<Item = A>) -> Row {
    let arguments = arguments.into_iter().map(|argument| argument.as_ref().to_vec());
    Row::new(name, Line::Argv(arguments.collect()))
}

impl Row {
    fn new(name: &str, line: Line) -> Self {
        Self {
            name: name.to_owned(),
            line,
            stdin: None,
            env: Vec::new(),
            cwd: "",
            timeout: PATIENCE,
            stderr: Stderr::Exact,
        }
    }

    pub(crate) fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(bytes.into());
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.env.push((name.as_bytes().to_vec(), value.as_ref().to_vec()));
        self
    }

    pub(crate) fn cwd(mut self, cwd: &'static str) -> Self {
        self.cwd = cwd;
        self
    }

    pub(crate) fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    pub(crate) fn any_words(mut self) -> Self {
        self.stderr = Stderr::AnyWords;
        self
    }

    /// What the reference reads.
    pub(crate) fn to_json(&self, directory: &str) -> Value {
        let login =
            LOGIN.map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()));
        let env = login.iter().chain(&self.env);
        let env: Vec<Value> =
            env.map(|(name, value)| json!([latin1(name), latin1(value)])).collect();
        let mut row = json!({
            "stdin": latin1(self.stdin.as_deref().unwrap_or_default()),
            "env": env,
            "cwd": latin1(self.directory(directory).as_bytes()),
            "timeout": self.timeout.as_secs_f64(),
        });
        match &self.line {
            Line::Shell(line) => row["shell"] = latin1(line).into(),
            Line::Argv(arguments) => {
                row["argv"] = arguments.iter().map(|argument| latin1(argument)).collect();
            }
        }
        row
    }

    /// Runs it in the guest.
    pub(crate) fn run(&self, vm: &Vm, directory: &str) -> Outcome {
        let command = match &self.line {
            Line::Shell(line) => Command::shell(OsStr::from_bytes(line)),
            Line::Argv(arguments) => {
                let arguments: Vec<_> = arguments.iter().map(|a| OsStr::from_bytes(a)).collect();
                Command::from(arguments)
            }
        };
        let env = self
            .env
            .iter()
            .map(|(name, value)| (OsStr::from_bytes(name), OsStr::from_bytes(value)));
        let command = command
            .envs(env)
            .cwd(self.directory(directory))
            .timeout(self.timeout)
            .max_output(MAX_OUTPUT);
        let command = match &self.stdin {
            Some(bytes) => command.stdin(bytes.clone()),
            None => command,
        };
        Outcome::of(vm.run(command))
    }

    fn directory(&self, directory: &str) -> String {
        if self.cwd.starts_with('/') {
            return self.cwd.to_owned();
        }
        format!("{directory}/{}", self.cwd)
    }
}

impl Outcome {
    fn of(result: Result<CommandResult, VmError>) -> Self {
        let raised = |end: &str| Self {
            end: end.to_owned(),
            stdout: Output::of(b""),
            stderr: Output::of(b""),
        };
        let error = match result {
            Ok(result) => {
                return Self {
                    end: format!("returncode {}", result.exit_code),
                    stdout: Output::of(&result.stdout),
                    stderr: Output::of(&result.stderr),
                };
            }
            Err(error) => error,
        };
        let text = error.to_string();
        match error {
            VmError::Session { source, .. } => match source {
                SessionError::CommandTimeout { stdout, stderr, .. } => Self {
                    stdout: Output::of(&stdout),
                    stderr: Output::of(&stderr),
                    ..raised("TimeoutExpired")
                },
                SessionError::CommandNotFound { .. } => raised("not found"),
                SessionError::NotExecutable { .. } => raised("not executable"),
                SessionError::WorkingDirectory { .. } => raised("working directory"),
                _ => raised(&text),
            },
            _ => raised(&text),
        }
    }

    /// What the reference wrote, with the exceptions of `subprocess` in the terms of ours.
    pub(crate) fn from_json(value: &Value) -> Self {
        let end = match value["end"].as_str().unwrap() {
            // A path that leads through a file leads to no program: Python has a class for it.
            "FileNotFoundError of program" | "NotADirectoryError of program" => "not found",
            // The second is `ENOEXEC`, for which Python has no class.
            "PermissionError of program" | "OSError of program" => "not executable",
            "FileNotFoundError of cwd" | "NotADirectoryError of cwd" => "working directory",
            end => end,
        };
        let output = |name: &str| Output {
            length: value[name]["length"].as_u64().unwrap(),
            sha256: value[name]["sha256"].as_str().unwrap().to_owned(),
            shown: value[name]["shown"].as_str().unwrap().to_owned(),
        };
        Self { end: end.to_owned(), stdout: output("stdout"), stderr: output("stderr") }
    }

    /// Whether `row` may end in either.
    pub(crate) fn is_as(&self, other: &Self, row: &Row) -> bool {
        let stderr = match row.stderr {
            Stderr::Exact => self.stderr == other.stderr,
            Stderr::AnyWords => (self.stderr.length == 0) == (other.stderr.length == 0),
        };
        self.end == other.end && self.stdout == other.stdout && stderr
    }
}

impl Output {
    fn of(bytes: &[u8]) -> Self {
        Self {
            length: bytes.len() as u64,
            sha256: smolvm_testkit::content::sha256_hex(bytes),
            shown: latin1(&bytes[..bytes.len().min(SHOWN)]),
        }
    }
}

/// A text of which each character is a byte.
fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect()
}
