//! A command to run in the guest: [`Exec`], its streams and how it ends.

use alloc::string::String;
use alloc::vec::Vec;

use crate::error::ProtocolError;
use crate::wire::{Reader, Write as _};

/// A command to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exec {
    /// What to run.
    pub program: Program,
    /// Names and values that are added to the environment.
    pub env: Vec<(Vec<u8>, Vec<u8>)>,
    /// The working directory; the user's home directory where there is none.
    pub cwd: Option<Vec<u8>>,
    /// A user's name, or `uid` or `uid:gid` in digits; root where there is none.
    pub user: Option<String>,
    /// Whether standard input comes from the host; else it is empty.
    pub stdin: bool,
    /// The size of the terminal to run it in. Its standard error is its standard output then.
    pub terminal: Option<WindowSize>,
}

/// What to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    /// A command line for the guest's shell (`sh -c`).
    Shell(Vec<u8>),
    /// A program, searched for in `PATH`, and its arguments; the first is its name.
    Arguments(Vec<Vec<u8>>),
}

/// The streams of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stream {
    /// From the host to the guest: standard input, what is copied in, what a connection sends.
    Stdin,
    /// From the guest to the host: standard output, what is copied out, what a connection answers.
    Stdout,
    /// From the guest to the host: standard error.
    Stderr,
}

/// The size of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Characters a line.
    pub columns: u16,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It exited with this code.
    Code(u8),
    /// A signal of this number ended it.
    Signal(u8),
}

impl Exec {
    /// Runs `program` as root, with no input and no terminal.
    #[must_use]
    pub fn new(program: Program) -> Self {
        Self { program, env: Vec::new(), cwd: None, user: None, stdin: false, terminal: None }
    }

    pub(crate) fn write(&self, wire: &mut Vec<u8>) {
        match &self.program {
            Program::Shell(line) => {
                wire.u8(0);
                wire.bytes(line);
            }
            Program::Arguments(arguments) => {
                wire.u8(1);
                wire.u32(u32::try_from(arguments.len()).unwrap_or(u32::MAX));
                for argument in arguments {
                    wire.bytes(argument);
                }
            }
        }
        wire.u32(u32::try_from(self.env.len()).unwrap_or(u32::MAX));
        for (name, value) in &self.env {
            wire.bytes(name);
            wire.bytes(value);
        }
        wire.option(self.cwd.as_deref(), Vec::bytes);
        wire.option(self.user.as_deref(), |wire, user| wire.bytes(user.as_bytes()));
        wire.u8(u8::from(self.stdin));
        wire.option(self.terminal, |wire, size| size.write(wire));
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, ProtocolError> {
        let program = match reader.u8()? {
            0 => Program::Shell(reader.bytes()?),
            1 => Program::Arguments(reader.list(Reader::bytes)?),
            _ => return Err(ProtocolError::Malformed("neither a shell's line nor arguments")),
        };
        Ok(Self {
            program,
            env: reader.list(|reader| Ok((reader.bytes()?, reader.bytes()?)))?,
            cwd: reader.option(Reader::bytes)?,
            user: reader.option(Reader::text)?,
            stdin: reader.bool()?,
            terminal: reader.option(WindowSize::read)?,
        })
    }
}

impl Stream {
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Stdin => 0,
            Self::Stdout => 1,
            Self::Stderr => 2,
        }
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, ProtocolError> {
        match reader.u8()? {
            0 => Ok(Self::Stdin),
            1 => Ok(Self::Stdout),
            2 => Ok(Self::Stderr),
            _ => Err(ProtocolError::Malformed("there is no such stream")),
        }
    }
}

impl WindowSize {
    pub(crate) fn write(self, wire: &mut Vec<u8>) {
        wire.u16(self.rows);
        wire.u16(self.columns);
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, ProtocolError> {
        Ok(Self { rows: reader.u16()?, columns: reader.u16()? })
    }
}

impl Exit {
    pub(crate) fn write(self, wire: &mut Vec<u8>) {
        let (how, number) = match self {
            Self::Code(code) => (0, code),
            Self::Signal(signal) => (1, signal),
        };
        wire.u8(how);
        wire.u8(number);
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, ProtocolError> {
        match (reader.u8()?, reader.u8()?) {
            (0, code) => Ok(Self::Code(code)),
            (1, signal) => Ok(Self::Signal(signal)),
            _ => Err(ProtocolError::Malformed("neither exited nor ended by a signal")),
        }
    }
}
