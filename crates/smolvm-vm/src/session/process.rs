//! [`Process`]: a command that runs, its streams as they come.

use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use smolvm_protocol::{Request, Stream, WindowSize};

use super::Session;
use super::channel::{Channel, Interrupted, Outcome};
use super::command::{Command, Input};
use super::error::SessionError;
use super::outcome::ExitStatus;
use super::wait::deadline;

/// A command that runs in the guest. It can be used from many threads at once.
///
/// Its streams are taken out of it once each, and read or written from then on. What is not read
/// makes the command wait, after some hundred KiB, as a full pipe would. When the process is
/// dropped before the command has ended, the command is killed with all of its process group.
#[derive(Debug)]
pub struct Process {
    pub(super) channel: Arc<Channel>,
    command: Command,
    pid: u32,
    stdin: Mutex<Option<ProcessStdin>>,
    stdout: Mutex<Option<ProcessOutput>>,
    stderr: Mutex<Option<ProcessOutput>>,
}

/// The standard input of a [`Process`]. It ends when this is dropped.
#[derive(Debug)]
pub struct ProcessStdin {
    channel: Arc<Channel>,
}

/// The standard output or error of a [`Process`]. It ends when the command has ended or closed it.
/// Once this is dropped, what is still written there is thrown away.
#[derive(Debug)]
pub struct ProcessOutput {
    channel: Arc<Channel>,
    stream: Stream,
}

/// The signal that nothing survives.
const SIGKILL: u8 = 9;

impl Session {
    /// Starts a command, and returns once it runs.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run), where the command cannot be started; where that takes longer than
    /// the command's time-out, [`SessionError::NotAnswering`].
    pub fn spawn(&self, command: &Command) -> Result<Process, SessionError> {
        let request = command.request()?;
        let start = command.timeout.and_then(deadline);
        let error = |interrupted| match interrupted {
            Interrupted::Ended(Outcome::Failed(failure)) => {
                SessionError::from_exec(command, &failure)
            }
            other => {
                other.into_error(&format!("run {command}"), command.timeout.unwrap_or_default())
            }
        };
        let mut channel = self.open(&request, start).map_err(error)?;
        let pid = channel.wait_started(start).map_err(error)?;
        channel.outlive_token();
        let channel = Arc::new(channel);
        let output =
            |stream| Mutex::new(Some(ProcessOutput { channel: Arc::clone(&channel), stream }));
        let stdin = ProcessStdin::new(Arc::clone(&channel));
        let stdin = match &command.input {
            Input::Empty => None,
            Input::Piped => Some(stdin),
            Input::Bytes(bytes) => {
                stdin.feed_from(io::Cursor::new(bytes.clone()))?;
                None
            }
        };
        Ok(Process {
            command: command.clone(),
            pid,
            stdin: Mutex::new(stdin),
            stdout: output(Stream::Stdout),
            stderr: output(Stream::Stderr),
            channel,
        })
    }
}

impl Process {
    /// The process's number in the guest.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Its standard input, the first time; only of a command with
    /// [piped input](Command::stdin_piped).
    pub fn take_stdin(&self) -> Option<ProcessStdin> {
        take(&self.stdin)
    }

    /// Its standard output, the first time.
    pub fn take_stdout(&self) -> Option<ProcessOutput> {
        take(&self.stdout)
    }

    /// Its standard error, the first time. In a terminal there is nothing in it.
    pub fn take_stderr(&self) -> Option<ProcessOutput> {
        take(&self.stderr)
    }

    /// Waits until the command has ended. Standard input that nobody has taken ends first, so that
    /// a command that reads it does not wait for ever.
    ///
    /// # Errors
    ///
    /// [`SessionError::Disconnected`] or [`SessionError::Protocol`].
    pub fn wait(&self) -> Result<ExitStatus, SessionError> {
        drop(self.take_stdin());
        match self.channel.wait_outcome(None) {
            Some(outcome) => self.status(outcome),
            None => Err(SessionError::Disconnected),
        }
    }

    /// Waits at most so long; `None` where the command still runs then.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> Result<Option<ExitStatus>, SessionError> {
        let outcome = self.channel.wait_outcome(deadline(timeout));
        outcome.map(|outcome| self.status(outcome)).transpose()
    }

    /// How the command ended, if it has.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    pub fn try_wait(&self) -> Result<Option<ExitStatus>, SessionError> {
        self.wait_timeout(Duration::ZERO)
    }

    /// Kills the command, and all of its process group.
    ///
    /// # Errors
    ///
    /// As [`signal`](Self::signal).
    pub fn kill(&self) -> Result<(), SessionError> {
        self.signal(SIGKILL)
    }

    /// Sends the signal of this number to the command, and to all of its process group. Does
    /// nothing where it has ended. What the command has written by then is taken over, so that its
    /// end can be waited for without its output being read.
    ///
    /// # Errors
    ///
    /// [`SessionError::Disconnected`] or [`SessionError::Protocol`] where the session has ended.
    pub fn signal(&self, signal: u8) -> Result<(), SessionError> {
        self.tell(&Request::Signal(signal))?;
        // In this order: else a command that was waiting for room would go on writing.
        self.channel.make_room(signal == SIGKILL);
        Ok(())
    }

    /// Tells the command's terminal that it has another size now.
    ///
    /// # Errors
    ///
    /// As [`signal`](Self::signal).
    pub fn resize(&self, size: WindowSize) -> Result<(), SessionError> {
        self.tell(&Request::Resize(size))
    }

    fn tell(&self, request: &Request) -> Result<(), SessionError> {
        match self.channel.wait_outcome(deadline(Duration::ZERO)) {
            None => self.channel.send_now(request),
            Some(Outcome::Lost(ending)) => return Err(ending.into()),
            Some(_) => {}
        }
        Ok(())
    }

    fn status(&self, outcome: Outcome) -> Result<ExitStatus, SessionError> {
        match outcome {
            Outcome::Exited { exit, nanos } => Ok(ExitStatus::new(exit, nanos)),
            Outcome::Failed(failure) => Err(SessionError::from_exec(&self.command, &failure)),
            other => Err(other.into_error(&format!("run {}", self.command))),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.channel.give_up();
    }
}

impl ProcessStdin {
    pub(super) fn new(channel: Arc<Channel>) -> Self {
        Self { channel }
    }

    /// Writes what `input` gives from a thread of its own, so that the command can be read at the
    /// same time.
    pub(super) fn feed_from(
        mut self,
        mut input: impl Read + Send + 'static,
    ) -> Result<(), SessionError> {
        // A command that ends before it has read all of it has not failed for that.
        let feed = move || drop(io::copy(&mut input, &mut self));
        let feeder = thread::Builder::new().name("smolvm-stdin".to_owned()).spawn(feed);
        feeder.map(drop).map_err(|source| SessionError::Host { action: "start a thread", source })
    }
}

impl ProcessStdin {
    /// As [`write`](Write::write), and waits at most so long; `None` where the command has taken
    /// nothing by then.
    ///
    /// # Errors
    ///
    /// As [`write`](Write::write).
    pub fn write_within(&self, bytes: &[u8], timeout: Duration) -> io::Result<Option<usize>> {
        if bytes.is_empty() {
            return Ok(Some(0));
        }
        within(self.channel.write(bytes, deadline(timeout)))
    }
}

impl ProcessOutput {
    /// As [`read`](Read::read), and waits at most so long; `None` where nothing has come by then.
    ///
    /// # Errors
    ///
    /// As [`read`](Read::read).
    pub fn read_within(&self, buffer: &mut [u8], timeout: Duration) -> io::Result<Option<usize>> {
        within(self.channel.read(self.stream, buffer, deadline(timeout)))
    }
}

impl Write for ProcessStdin {
    /// Waits until the command has read enough of what was written before.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        self.channel.write(bytes, None).map_err(io_error)
    }

    /// What was written is on its way already.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for ProcessStdin {
    fn drop(&mut self) {
        if self.channel.wait_outcome(deadline(Duration::ZERO)).is_none() {
            self.channel.send_now(&Request::End);
        }
    }
}

impl Read for ProcessOutput {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.channel.read(self.stream, buffer, None).map_err(io_error)
    }
}

impl Drop for ProcessOutput {
    fn drop(&mut self) {
        self.channel.discard(self.stream);
    }
}

fn take<T>(slot: &Mutex<Option<T>>) -> Option<T> {
    slot.lock().unwrap_or_else(PoisonError::into_inner).take()
}

fn within(done: Result<usize, Interrupted>) -> io::Result<Option<usize>> {
    match done {
        Ok(count) => Ok(Some(count)),
        Err(Interrupted::TimedOut) => Ok(None),
        Err(interrupted) => Err(io_error(interrupted)),
    }
}

fn io_error(interrupted: Interrupted) -> io::Error {
    match interrupted {
        Interrupted::Ended(Outcome::Lost(ending)) => {
            io::Error::new(io::ErrorKind::ConnectionAborted, SessionError::from(ending))
        }
        Interrupted::Ended(_) => io::ErrorKind::BrokenPipe.into(),
        Interrupted::TimedOut | Interrupted::Cancelled | Interrupted::TooMany => {
            io::ErrorKind::TimedOut.into()
        }
    }
}
