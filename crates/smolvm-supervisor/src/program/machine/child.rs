//! One program that runs for the VM, and what it says.

use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::process::{self, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::arguments::AGENT_NUMBER;
use crate::control::Program;
use crate::log::Pump;
use crate::state::Process;
use crate::sys;

/// A program that was started and not yet waited for.
pub(crate) struct Child {
    pub(crate) name: String,
    pub(crate) process: Process,
    handle: process::Child,
    /// What it says about itself.
    pub(crate) messages: Pump,
}

/// What only the VMM is given.
pub(crate) struct Endowment {
    /// The guest's end of the agent's channel.
    pub(crate) agent: UnixStream,
    /// The numbers of the open files.
    pub(crate) files: std::ops::Range<RawFd>,
}

/// How long a program that was killed may take to end; one that waits for a dead disk never does.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

impl Child {
    /// Starts a program beside the VMM.
    pub(crate) fn helper(program: &Program) -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        let mut command = command(program)?;
        command.stdout(writer.try_clone()?).stderr(writer);
        sys::prepare_child(&mut command, None, AGENT_NUMBER, 0..0);
        Self::start(program, command, reader)
    }

    /// Starts the VMM. Also returns what the guest writes to its console.
    pub(crate) fn vmm(program: &Program, endowment: Endowment) -> io::Result<(Self, Pump)> {
        let (reader, writer) = io::pipe()?;
        let (console, console_writer) = io::pipe()?;
        let console = Pump::new(console)?;
        let mut command = command(program)?;
        command.stdout(console_writer).stderr(writer);
        let Endowment { agent, files } = endowment;
        sys::prepare_child(&mut command, Some(OwnedFd::from(agent)), AGENT_NUMBER, files);
        Ok((Self::start(program, command, reader)?, console))
    }

    fn start(program: &Program, mut command: Command, reader: io::PipeReader) -> io::Result<Self> {
        let name = program.arguments.first().map(|name| name.to_string_lossy().into_owned());
        let messages = Pump::new(reader)?;
        let handle = command.spawn()?;
        let pid = handle.id();
        let process = Process::find(pid).unwrap_or(Process { pid, start_time: 0 });
        Ok(Self { name: name.unwrap_or_default(), process, handle, messages })
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.handle.try_wait().ok().flatten()
    }

    /// Ends it at once.
    pub(crate) fn kill(&mut self) {
        let _ = self.handle.kill();
    }

    /// Ends it at once, and waits until it has ended.
    pub(crate) fn end(&mut self) -> Option<ExitStatus> {
        self.kill();
        let deadline = Instant::now() + KILL_TIMEOUT;
        loop {
            let ended = self.ended();
            if ended.is_some() || Instant::now() > deadline {
                return ended;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

fn command(program: &Program) -> io::Result<Command> {
    let (name, arguments) =
        program.arguments.split_first().ok_or(io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut command = Command::new(name);
    command.args(arguments).stdin(Stdio::null()).current_dir("/");
    Ok(command)
}
