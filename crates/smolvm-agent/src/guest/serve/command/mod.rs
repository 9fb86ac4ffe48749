//! Commands: programs that run for the host, and their streams.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::process::ExitStatus;
use std::rc::Rc;
use std::time::Instant;

use smolvm_protocol::{
    Exec, Exit, Failure, FailureKind, ProtocolError, Reply, Request, Stream, WindowSize,
};

mod busybox;
mod input;
mod launch;
mod output;

use input::Input;
use launch::Prepared;
use output::Output;

use super::channel::{self, Channel, Flow, Replies};
use super::failure::{failed, io_failure};
use crate::sys::descriptor::set_pipe_nonblocking;
use crate::sys::launch::Restored;
use crate::sys::poll::Events;
use crate::sys::process::ProcessGroup;
use crate::sys::pty::{self, Pty};

/// A program that runs, or that has ended but whose output the host has not taken yet.
struct Command {
    group: ProcessGroup,
    /// When the host's request was taken up.
    started: Instant,
    input: Input,
    outputs: Vec<Output>,
    terminal: Option<Rc<File>>,
    ended: Option<Ended>,
}

/// How a program ended.
#[derive(Debug, Clone, Copy)]
struct Ended {
    exit: Exit,
    nanos: u64,
}

/// The ends of the streams that are the agent's, and those of the program.
struct Streams {
    input: Input,
    outputs: Vec<Output>,
    terminal: Option<Rc<File>>,
    of_program: [OwnedFd; 3],
}

/// Starts a command.
///
/// # Errors
///
/// With the answer that says why it cannot be started.
pub(super) fn start(
    exec: &Exec,
    restored: Restored,
    replies: &mut Replies<'_>,
) -> Result<Box<dyn Channel>, Reply> {
    let started = Instant::now();
    let prepared = Prepared::new(exec).map_err(Reply::Failed)?;
    let streams = match exec.terminal {
        Some(size) => Streams::terminal(exec, size).map_err(|error| no_terminal(&error))?,
        None => Streams::pipes(exec).map_err(|error| {
            Reply::Failed(io_failure("the agent cannot make pipes for the command", &error))
        })?,
    };
    streams.give_to(prepared.user());
    let files = streams.of_program.each_ref().map(OwnedFd::as_fd);
    let group = prepared.start(files, exec.terminal.is_some(), restored).map_err(Reply::Failed)?;
    replies.send(&Reply::Started(group.id()));
    Ok(Box::new(Command {
        group,
        started,
        input: streams.input,
        outputs: streams.outputs,
        terminal: streams.terminal,
        ended: None,
    }))
}

/// Starts a command that belongs to no channel, with no input, and no output but to `output`.
pub(super) fn start_unattended(
    exec: &Exec,
    output: Option<BorrowedFd<'_>>,
    restored: Restored,
) -> Result<ProcessGroup, Failure> {
    let null = File::options().read(true).write(true).open("/dev/null");
    let null = null.map_err(|error| io_failure("/dev/null", &error))?;
    let streams = [null.as_fd(), output.unwrap_or(null.as_fd()), null.as_fd()];
    Prepared::new(exec)?.start(streams, false, restored)
}

fn no_terminal(error: &io::Error) -> Reply {
    let message = format_args!(
        "the guest has no terminals: {error}; it needs devpts (mount -t devpts devpts /dev/pts)"
    );
    failed(FailureKind::Unsupported, message)
}

impl Streams {
    fn pipes(exec: &Exec) -> io::Result<Self> {
        let (output, of_program_1) = output_pipe(Stream::Stdout)?;
        let (error, of_program_2) = output_pipe(Stream::Stderr)?;
        let (input, of_program_0) = if exec.stdin {
            let (reader, writer) = io::pipe()?;
            set_pipe_nonblocking(&writer)?;
            (Input::pipe(File::from(OwnedFd::from(writer))), reader.into())
        } else {
            (Input::none(), File::open("/dev/null")?.into())
        };
        Ok(Self {
            input,
            outputs: vec![output, error],
            terminal: None,
            of_program: [of_program_0, of_program_1, of_program_2],
        })
    }

    fn terminal(exec: &Exec, size: WindowSize) -> io::Result<Self> {
        let Pty { master, terminal } = Pty::open(size.rows, size.columns)?;
        let master = Rc::new(master);
        let of_program =
            [terminal.try_clone()?.into(), terminal.try_clone()?.into(), terminal.into()];
        let input = if exec.stdin { Input::terminal(Rc::clone(&master)) } else { Input::none() };
        let outputs = vec![Output::terminal(Rc::clone(&master))];
        Ok(Self { input, outputs, terminal: Some(master), of_program })
    }

    /// Lets the user open the streams once more (`/dev/stdout`, `/dev/tty`).
    fn give_to(&self, user: u32) {
        if user != 0 {
            for stream in &self.of_program {
                // Most programs never do.
                let _ = std::os::unix::fs::fchown(stream, Some(user), None);
            }
        }
    }
}

fn output_pipe(stream: Stream) -> io::Result<(Output, OwnedFd)> {
    let (reader, writer) = io::pipe()?;
    set_pipe_nonblocking(&reader)?;
    Ok((Output::pipe(stream, File::from(OwnedFd::from(reader))), writer.into()))
}

impl Channel for Command {
    fn receive(
        &mut self,
        request: Request,
        _length: usize,
        replies: &mut Replies<'_>,
    ) -> Result<Flow, ProtocolError> {
        match request {
            Request::Data(bytes) => self.input.take(bytes, replies)?,
            Request::End => self.input.end(),
            Request::Credit(stream, bytes) => self.credit(stream, bytes)?,
            Request::Signal(signal) if self.ended.is_none() => self.group.signal(signal),
            Request::Signal(_) => {}
            Request::Resize(size) => {
                if let Some(terminal) = &self.terminal {
                    // It fails when nothing has the terminal open any more.
                    let _ = pty::resize(terminal, size.rows, size.columns);
                }
            }
            Request::Close => return Ok(self.close(replies)),
            _ => return Err(ProtocolError::Malformed("that is not said to a command")),
        }
        Ok(Flow::Open)
    }

    fn watch(&self, room: bool, watch: &mut dyn FnMut(BorrowedFd<'_>, Events, Stream)) {
        if let Some(file) = self.input.waits_for() {
            watch(file.as_fd(), Events::WRITE, Stream::Stdin);
        }
        if room {
            for output in &self.outputs {
                if let Some(file) = output.waits_for() {
                    watch(file.as_fd(), Events::READ, output.stream());
                }
            }
        }
    }

    fn ready(&mut self, stream: Stream, replies: &mut Replies<'_>) -> Flow {
        if stream == Stream::Stdin {
            self.input.write(replies);
            return Flow::Open;
        }
        for output in &mut self.outputs {
            if output.stream() == stream {
                output.read(replies);
            }
        }
        self.finish_if_done(replies)
    }

    fn process(&self) -> Option<ProcessGroup> {
        self.ended.is_none().then_some(self.group)
    }

    fn process_ended(&mut self, status: ExitStatus, replies: &mut Replies<'_>) -> Flow {
        let nanos = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.ended = Some(Ended { exit: channel::exit(status), nanos });
        self.input.program_ended(replies);
        for output in &mut self.outputs {
            output.program_ended(replies);
        }
        self.finish_if_done(replies)
    }

    /// A terminal that nobody writes to any more would never be ready again.
    fn is_busy(&self) -> bool {
        self.ended.is_some() && self.outputs.iter().any(|output| output.waits_for().is_some())
    }

    fn advance(&mut self, replies: &mut Replies<'_>) -> Flow {
        for output in &mut self.outputs {
            output.read_rest(replies);
        }
        self.finish_if_done(replies)
    }

    fn leftovers(&mut self) -> Vec<Rc<File>> {
        self.outputs.iter_mut().filter_map(Output::take_file).collect()
    }
}

impl Command {
    fn credit(&mut self, stream: Stream, bytes: u32) -> Result<(), ProtocolError> {
        let output = self.outputs.iter_mut().find(|output| output.stream() == stream);
        let output = output.ok_or(ProtocolError::Malformed("the command has no such stream"))?;
        output.credit(bytes)
    }

    fn close(&mut self, replies: &mut Replies<'_>) -> Flow {
        const SIGKILL: u8 = 9;
        if self.ended.is_none() {
            self.group.signal(SIGKILL);
        }
        for output in &mut self.outputs {
            output.give_up();
        }
        self.finish_if_done(replies)
    }

    /// Says how the program ended, once the host has all that it wrote.
    fn finish_if_done(&mut self, replies: &mut Replies<'_>) -> Flow {
        match self.ended {
            Some(Ended { exit, nanos }) if self.outputs.iter().all(Output::is_over) => {
                replies.finish(&Reply::Exited { exit, nanos })
            }
            _ => Flow::Open,
        }
    }
}

impl Drop for Command {
    /// Nobody waits for its end any more.
    fn drop(&mut self) {
        const SIGKILL: u8 = 9;
        if self.ended.is_none() {
            self.group.signal(SIGKILL);
        }
    }
}
