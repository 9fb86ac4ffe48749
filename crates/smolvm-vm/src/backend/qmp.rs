//! [`Qmp`]: what a running QEMU is told and asked, in its monitor protocol ("QEMU Machine Protocol
//! Specification", docs/interop/qmp-spec.txt).

mod migration;
#[cfg(test)]
mod tests;

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fmt, io};

use serde::{Deserialize, Serialize};

use super::connect::connect_before;

/// A connection to the monitor of a running QEMU, which serves one at a time.
#[derive(Debug)]
pub(crate) struct Qmp {
    stream: BufReader<UnixStream>,
    socket: PathBuf,
    deadline: Instant,
}

/// Why QEMU was not told, or did not do it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum QmpError {
    /// The socket failed, or QEMU did not answer in time.
    #[error("the monitor {}: {source}", socket.display())]
    Io {
        /// The monitor's socket.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What came is no message of the protocol.
    #[error("the monitor {} says what is not QMP: {reason}", socket.display())]
    Malformed {
        /// The monitor's socket.
        socket: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// QEMU refused.
    #[error("the monitor {} refuses {command}: {description}", socket.display())]
    Refused {
        /// The monitor's socket.
        socket: PathBuf,
        /// What it was told.
        command: Command,
        /// What it says.
        description: String,
    },
}

/// What QEMU can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Command {
    /// Leave the negotiation with which a connection begins.
    QmpCapabilities,
    #[serde(rename = "query-status")]
    QueryStatus,
    /// Stop the guest's processors.
    Stop,
    /// Have them go on.
    Cont,
    /// Take a descriptor, and call it by a name.
    #[serde(rename = "getfd")]
    GetFd,
    #[serde(rename = "migrate-set-parameters")]
    MigrateSetParameters,
    /// Write what the machine is to a descriptor.
    Migrate,
    /// Read what the machine is to be from a descriptor.
    #[serde(rename = "migrate-incoming")]
    MigrateIncoming,
    #[serde(rename = "query-migrate")]
    QueryMigrate,
    /// Press the power button.
    SystemPowerdown,
    /// End, without asking the guest.
    Quit,
}

#[derive(Serialize)]
struct Execute {
    execute: Command,
    #[serde(skip_serializing_if = "Option::is_none")]
    arguments: Option<serde_json::Value>,
}

/// A line from QEMU: one of the fields is there.
#[derive(Debug, Deserialize)]
struct Message {
    #[serde(rename = "QMP")]
    greeting: Option<serde::de::IgnoredAny>,
    #[serde(rename = "return")]
    result: Option<serde_json::Value>,
    error: Option<Refusal>,
    event: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Refusal {
    desc: String,
}

/// What `query-status` answers.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Status {
    /// Whether the guest's processors run.
    pub(crate) running: bool,
    /// A word such as `running` or `paused`.
    pub(crate) status: String,
}

/// No message of QEMU's is longer, in bytes.
const LONGEST: usize = 1 << 20;

/// How much is shown of a line that was not expected, in bytes.
const SHOWN: usize = 200;

impl Qmp {
    /// Connects to a monitor. All that is said on this connection must be over within `timeout`.
    pub(crate) fn connect(socket: &Path, timeout: Duration) -> Result<Self, QmpError> {
        let deadline = Instant::now() + timeout;
        let stream = connect_before(socket, deadline)
            .map_err(|source| QmpError::Io { socket: socket.to_owned(), source })?;
        let mut qmp = Self { stream: BufReader::new(stream), socket: socket.to_owned(), deadline };
        qmp.wait_for_greeting()?;
        qmp.execute(Command::QmpCapabilities)?;
        Ok(qmp)
    }

    /// What happens in the machine may be told before the greeting: QEMU takes a connection in one
    /// thread, and tells of events from others, which see that it is there before it was greeted.
    fn wait_for_greeting(&mut self) -> Result<(), QmpError> {
        loop {
            let line = self.receive_line()?;
            let message: Message =
                serde_json::from_slice(&line).map_err(|error| self.malformed(error))?;
            if message.greeting.is_some() {
                return Ok(());
            }
            if message.event.is_none() {
                let said = String::from_utf8_lossy(&line[..line.len().min(SHOWN)]).into_owned();
                return Err(self.malformed(format_args!("{said:?} comes before the greeting")));
            }
        }
    }

    /// Whether the guest's processors run.
    pub(crate) fn status(&mut self) -> Result<Status, QmpError> {
        let result = self.execute(Command::QueryStatus)?;
        serde_json::from_value(result).map_err(|error| self.malformed(error))
    }

    /// Stops the guest's processors; returns when they have stopped.
    pub(crate) fn stop(&mut self) -> Result<(), QmpError> {
        self.execute(Command::Stop).map(drop)
    }

    /// Has the guest's processors go on.
    pub(crate) fn cont(&mut self) -> Result<(), QmpError> {
        self.execute(Command::Cont).map(drop)
    }

    /// Presses the power button; a guest need not care.
    pub(crate) fn system_powerdown(&mut self) -> Result<(), QmpError> {
        self.execute(Command::SystemPowerdown).map(drop)
    }

    /// Ends the machine at once.
    pub(crate) fn quit(&mut self) -> Result<(), QmpError> {
        self.execute(Command::Quit).map(drop)
    }

    fn execute(&mut self, command: Command) -> Result<serde_json::Value, QmpError> {
        self.execute_with(command, None)
    }

    fn execute_with(
        &mut self,
        command: Command,
        arguments: Option<serde_json::Value>,
    ) -> Result<serde_json::Value, QmpError> {
        let line = self.line(command, arguments)?;
        self.within_deadline()?;
        self.stream.get_mut().write_all(&line).map_err(|error| self.io(error))?;
        self.answer(command)
    }

    fn line(
        &self,
        command: Command,
        arguments: Option<serde_json::Value>,
    ) -> Result<Vec<u8>, QmpError> {
        let mut line = serde_json::to_vec(&Execute { execute: command, arguments })
            .map_err(|error| self.malformed(error))?;
        line.push(b'\n');
        Ok(line)
    }

    fn answer(&mut self, command: Command) -> Result<serde_json::Value, QmpError> {
        loop {
            let message = self.receive()?;
            if let Some(refusal) = message.error {
                return Err(self.refused(command, refusal.desc));
            }
            if let Some(result) = message.result {
                return Ok(result);
            }
            // What happens in the machine is told at any time, and not asked for here.
            if message.event.is_none() {
                return Err(self.malformed("a message is none of greeting, return, error, event"));
            }
        }
    }

    fn receive(&mut self) -> Result<Message, QmpError> {
        let line = self.receive_line()?;
        serde_json::from_slice(&line).map_err(|error| self.malformed(error))
    }

    /// The deadline is looked at before every read: bytes that come one by one win no time.
    fn receive_line(&mut self) -> Result<Vec<u8>, QmpError> {
        let mut line = Vec::new();
        while !line.ends_with(b"\n") {
            if line.len() > LONGEST {
                return Err(self.malformed(format_args!("a line is longer than {LONGEST} bytes")));
            }
            self.within_deadline()?;
            let received = match self.stream.fill_buf() {
                Ok([]) => return Err(self.io(io::ErrorKind::UnexpectedEof.into())),
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.io(error)),
            };
            let end = memchr::memchr(b'\n', received).map_or(received.len(), |end| end + 1);
            line.extend_from_slice(&received[..end]);
            self.stream.consume(end);
        }
        Ok(line)
    }

    /// Has the next system calls give up at the deadline.
    fn within_deadline(&mut self) -> Result<(), QmpError> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(self.io(io::ErrorKind::TimedOut.into()));
        }
        let stream = self.stream.get_ref();
        let set = stream.set_read_timeout(Some(left));
        set.and_then(|()| stream.set_write_timeout(Some(left))).map_err(|error| self.io(error))
    }

    fn io(&self, source: io::Error) -> QmpError {
        let source = match source.kind() {
            // As the kernel says it when a time-out of the socket has passed.
            io::ErrorKind::WouldBlock => io::ErrorKind::TimedOut.into(),
            _ => source,
        };
        QmpError::Io { socket: self.socket.clone(), source }
    }

    fn refused(&self, command: Command, description: String) -> QmpError {
        QmpError::Refused { socket: self.socket.clone(), command, description }
    }

    fn malformed(&self, reason: impl fmt::Display) -> QmpError {
        QmpError::Malformed { socket: self.socket.clone(), reason: reason.to_string() }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::QmpCapabilities => "qmp_capabilities",
            Self::QueryStatus => "query-status",
            Self::Stop => "stop",
            Self::Cont => "cont",
            Self::GetFd => "getfd",
            Self::MigrateSetParameters => "migrate-set-parameters",
            Self::Migrate => "migrate",
            Self::MigrateIncoming => "migrate-incoming",
            Self::QueryMigrate => "query-migrate",
            Self::SystemPowerdown => "system_powerdown",
            Self::Quit => "quit",
        })
    }
}
