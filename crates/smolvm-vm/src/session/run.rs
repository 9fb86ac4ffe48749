//! [`Session::run`]: a command from its start to its end, with all that it wrote.

use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};

use smolvm_protocol::{Request, Stream};

use super::Session;
use super::channel::{Channel, Interrupted, Outcome};
use super::command::{Command, Input};
use super::error::SessionError;
use super::inbox::Item;
use super::outcome::{CommandResult, ExitStatus};
use super::process::ProcessStdin;
use super::wait::deadline;

/// How long a command that was killed is waited for, so that a caller who hears of a time-out can
/// rely on its end. A guest that does not say so by then never will.
const KILL_GRACE: Duration = Duration::from_secs(2);

impl Session {
    /// Runs a command, and returns what it wrote and how it ended. A command that fails is no
    /// error here: its exit code tells.
    ///
    /// A command is over when it exits, with all that it has written by then: children that it
    /// leaves in the background are not waited for, even where they hold its output open.
    ///
    /// # Errors
    ///
    /// [`SessionError::CommandNotFound`], [`SessionError::NotExecutable`],
    /// [`SessionError::NoSuchUser`] or [`SessionError::WorkingDirectory`] where it could not be
    /// started, [`SessionError::CommandTimeout`] and [`SessionError::OutputTooLarge`] where it was
    /// killed; and what can befall any call.
    pub fn run(&self, command: &Command) -> Result<CommandResult, SessionError> {
        // An input that only a process could have is empty here.
        self.run_fed(command, |stdin| {
            drop(stdin);
            Ok(())
        })
    }

    /// As [`run`](Self::run), with what `input` gives as standard input. It is read in a thread of
    /// its own, which goes on after the command's end until the reading returns.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    pub fn run_with_stdin(
        &self,
        command: &Command,
        input: impl Read + Send + 'static,
    ) -> Result<CommandResult, SessionError> {
        let command = command.clone().stdin_piped();
        self.run_fed(&command, |stdin| stdin.feed_from(input))
    }

    /// Runs a command; `feed` takes care of its input where that is piped.
    fn run_fed(
        &self,
        command: &Command,
        feed: impl FnOnce(ProcessStdin) -> Result<(), SessionError>,
    ) -> Result<CommandResult, SessionError> {
        let start = Instant::now();
        let mut capture = Capture {
            command,
            deadline: command.timeout.and_then(deadline),
            stdout: Vec::new(),
            stderr: Vec::new(),
        };
        let request = command.request()?;
        let channel = self
            .open(&request, capture.deadline)
            .map_err(|interrupted| capture.error(interrupted))?;
        let channel = Arc::new(channel);
        if command.input == Input::Piped {
            feed(ProcessStdin::new(Arc::clone(&channel)))?;
        }
        let ended = capture.follow(&channel);
        if matches!(
            ended,
            Err(SessionError::CommandTimeout { .. }
                | SessionError::OutputTooLarge { .. }
                | SessionError::Cancelled)
        ) {
            kill(&channel);
        }
        channel.give_up();
        let status = ended?;
        Ok(CommandResult {
            exit_code: status.exit_code(),
            stdout: capture.stdout,
            stderr: capture.stderr,
            duration: start.elapsed(),
            guest_duration: status.guest_duration(),
        })
    }
}

/// What was captured of a command so far.
struct Capture<'a> {
    command: &'a Command,
    deadline: Option<Instant>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

/// What there is to do next.
enum Event {
    /// So many bytes of input may be sent.
    Room(usize),
    Output(Stream, Vec<u8>, Option<u32>),
    Ended(Outcome),
    Late,
}

impl Capture<'_> {
    /// Feeds the input and gathers the output, whichever can be done, until the command ends.
    fn follow(&mut self, channel: &Channel) -> Result<ExitStatus, SessionError> {
        let mut input = match &self.command.input {
            Input::Bytes(bytes) => bytes.as_slice(),
            Input::Empty | Input::Piped => &[],
        };
        if matches!(self.command.input, Input::Bytes(_)) && input.is_empty() {
            self.tell(channel, &Request::End)?;
        }
        loop {
            let is_late = self.deadline.is_some_and(|deadline| deadline <= Instant::now());
            let event = channel.wait(self.deadline, |state| {
                if state.outcome.is_none() {
                    // A command that always has something to say is not waited for either.
                    if is_late {
                        return Some(Event::Late);
                    }
                    if let Some(room) = state.reserve(input.len()) {
                        return Some(Event::Room(room));
                    }
                }
                for stream in [Stream::Stdout, Stream::Stderr] {
                    if let Some((Item::Data(bytes), credit)) = state.inbox(stream).take() {
                        return Some(Event::Output(stream, bytes, credit));
                    }
                }
                state.outcome.clone().map(Event::Ended)
            });
            match event {
                None => return Err(self.error(channel.late())),
                Some(Event::Late) => return Err(self.error(Interrupted::TimedOut)),
                Some(Event::Room(count)) => {
                    let (part, rest) = input.split_at(count);
                    self.tell(channel, &Request::Data(part.to_vec()))?;
                    input = rest;
                    if input.is_empty() {
                        self.tell(channel, &Request::End)?;
                    }
                }
                Some(Event::Output(stream, bytes, credit)) => {
                    self.keep(stream, &bytes)?;
                    channel.grant(stream, credit);
                }
                Some(Event::Ended(Outcome::Exited { exit, nanos })) => {
                    return Ok(ExitStatus::new(exit, nanos));
                }
                Some(Event::Ended(outcome)) => return Err(self.error(Interrupted::Ended(outcome))),
            }
        }
    }

    fn tell(&mut self, channel: &Channel, request: &Request) -> Result<(), SessionError> {
        channel.send(request, self.deadline).map_err(|interrupted| self.error(interrupted))
    }

    fn keep(&mut self, stream: Stream, bytes: &[u8]) -> Result<(), SessionError> {
        let total = self.stdout.len() + self.stderr.len() + bytes.len();
        let limit = self.command.max_output;
        if u64::try_from(total).is_ok_and(|total| total > limit) {
            return Err(SessionError::OutputTooLarge { command: self.command.to_string(), limit });
        }
        let kept = if stream == Stream::Stderr { &mut self.stderr } else { &mut self.stdout };
        kept.extend_from_slice(bytes);
        Ok(())
    }

    fn error(&mut self, interrupted: Interrupted) -> SessionError {
        match (interrupted, self.command.timeout) {
            (Interrupted::Ended(Outcome::Failed(failure)), _) => {
                SessionError::from_exec(self.command, &failure)
            }
            (Interrupted::TimedOut, Some(after)) => SessionError::CommandTimeout {
                command: self.command.to_string(),
                after,
                stdout: std::mem::take(&mut self.stdout),
                stderr: std::mem::take(&mut self.stderr),
            },
            (interrupted, after) => {
                let request = format!("run {}", self.command);
                interrupted.into_error(&request, after.unwrap_or_default())
            }
        }
    }
}

/// Ends a command and all of its process group, and waits for that, within reason.
fn kill(channel: &Channel) {
    channel.close();
    channel.discard(Stream::Stdout);
    channel.discard(Stream::Stderr);
    channel.wait_outcome(deadline(KILL_GRACE));
}
