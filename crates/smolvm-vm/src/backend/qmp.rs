//! [`Qmp`]: what a running QEMU is told and asked, in its monitor protocol ("QEMU Machine Protocol
//! Specification", docs/interop/qmp-spec.txt).

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fmt, io};

use serde::{Deserialize, Serialize};

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
    /// Press the power button.
    SystemPowerdown,
    /// End, without asking the guest.
    Quit,
}

#[derive(Serialize)]
struct Execute {
    execute: Command,
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
const LONGEST: u64 = 1 << 20;

impl Qmp {
    /// Connects to a monitor. All that is said on this connection must be over within `timeout`.
    pub(crate) fn connect(socket: &Path, timeout: Duration) -> Result<Self, QmpError> {
        let deadline = Instant::now() + timeout;
        let stream = UnixStream::connect(socket)
            .map_err(|source| QmpError::Io { socket: socket.to_owned(), source })?;
        let mut qmp = Self { stream: BufReader::new(stream), socket: socket.to_owned(), deadline };
        let greeting = qmp.receive()?;
        if greeting.greeting.is_none() {
            return Err(qmp.malformed("it does not begin with a greeting"));
        }
        qmp.execute(Command::QmpCapabilities)?;
        Ok(qmp)
    }

    /// Whether the guest's processors run.
    pub(crate) fn status(&mut self) -> Result<Status, QmpError> {
        let result = self.execute(Command::QueryStatus)?;
        serde_json::from_value(result).map_err(|error| self.malformed(error))
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
        let mut line = serde_json::to_vec(&Execute { execute: command })
            .map_err(|error| self.malformed(error))?;
        line.push(b'\n');
        self.within_deadline()?;
        self.stream.get_mut().write_all(&line).map_err(|error| self.io(error))?;
        loop {
            let message = self.receive()?;
            if let Some(refusal) = message.error {
                let socket = self.socket.clone();
                return Err(QmpError::Refused { socket, command, description: refusal.desc });
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
        self.within_deadline()?;
        let mut line = Vec::new();
        let read = (&mut self.stream).take(LONGEST).read_until(b'\n', &mut line);
        read.map_err(|error| self.io(error))?;
        if !line.ends_with(b"\n") {
            return Err(self.io(io::ErrorKind::UnexpectedEof.into()));
        }
        serde_json::from_slice(&line).map_err(|error| self.malformed(error))
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
        QmpError::Io { socket: self.socket.clone(), source }
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
            Self::SystemPowerdown => "system_powerdown",
            Self::Quit => "quit",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::process::{Child, Stdio};
    use std::thread;

    use super::*;
    use crate::backend::Qemu;
    use crate::kernel::Architecture;

    /// A QEMU that waits before its guest's first instruction.
    fn start_qemu(socket: &Path) -> Option<Child> {
        let Ok(qemu) = Qemu::find(Architecture::X86_64) else {
            smolvm_testkit::skip("there is no QEMU");
            return None;
        };
        let mut command = std::process::Command::new(qemu.program);
        command.args(["-M", "microvm", "-accel", "tcg", "-nodefaults", "-display", "none", "-S"]);
        command.arg("-qmp").arg(format!("unix:{},server=on,wait=off", socket.display()));
        let child = command.stdin(Stdio::null()).spawn().unwrap();
        while !socket.exists() {
            thread::sleep(Duration::from_millis(5));
        }
        Some(child)
    }

    #[test]
    fn a_real_qemu_tells_its_status_and_quits() {
        let temp = tempfile::tempdir().unwrap();
        let socket = temp.path().join("qmp.sock");
        let Some(mut child) = start_qemu(&socket) else { return };
        let mut qmp = Qmp::connect(&socket, Duration::from_secs(20)).unwrap();
        let status = qmp.status().unwrap();
        assert_eq!(status, Status { running: false, status: "prelaunch".to_owned() });
        qmp.system_powerdown().unwrap();
        drop(qmp);
        let mut qmp = Qmp::connect(&socket, Duration::from_secs(20)).unwrap();
        qmp.quit().unwrap();
        assert!(child.wait().unwrap().success());
    }

    #[test]
    fn whatever_a_monitor_says_is_bounded_and_named() {
        let temp = tempfile::tempdir().unwrap();
        for (number, said) in
            [&b""[..], b"\xff\xfe\n", b"{}\n", b"{\"QMP\": 1}\n{\"x\": 1}\n", &[b'x'; 3 << 20]]
                .into_iter()
                .enumerate()
        {
            let socket = temp.path().join(format!("{number}.sock"));
            let listener = UnixListener::bind(&socket).unwrap();
            let said = said.to_vec();
            let monitor = thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                // The client may have read enough.
                let _ = stream.write_all(&said);
            });
            let error = Qmp::connect(&socket, Duration::from_secs(5)).unwrap_err().to_string();
            assert!(error.contains(socket.to_str().unwrap()), "{error}");
            monitor.join().unwrap();
        }
    }

    #[test]
    fn a_monitor_that_says_nothing_is_given_up() {
        let temp = tempfile::tempdir().unwrap();
        let socket = temp.path().join("qmp.sock");
        let _listener = UnixListener::bind(&socket).unwrap();
        assert!(Qmp::connect(&socket, Duration::from_millis(50)).is_err());
    }
}
