//! One program that runs for the VM, and what it says.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd as _, RawFd};
use std::os::unix::net::UnixStream;
use std::process::{self, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::settings::{self, Belongings};
use crate::arguments::{AGENT_NUMBER, FIRST_OWN};
use crate::control::Program;
use crate::jail::Line;
use crate::log::Pump;
use crate::state::Process;
use crate::sys::{self, Preparation};

/// A program that was started and not yet waited for.
pub(crate) struct Child {
    pub(crate) name: String,
    pub(crate) process: Process,
    handle: process::Child,
    /// What it was started with.
    pub(crate) arguments: Vec<OsString>,
    /// What it says about itself.
    pub(crate) messages: Pump,
    /// What it has been given, which goes with it.
    belongings: Belongings,
}

/// What only the VMM is given.
pub(crate) struct Endowment {
    /// The guest's end of the agent's channel, where that is not its vsock.
    pub(crate) agent: Option<UnixStream>,
    /// The numbers of the open files.
    pub(crate) files: std::ops::Range<RawFd>,
    /// The process whose network namespace it may be put in.
    pub(crate) neighbour: Option<Process>,
}

/// How long a program that was killed may take to end; one that waits for a dead disk never does.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

impl Child {
    /// Starts a program beside the VMM.
    pub(crate) fn helper(program: &Program) -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        let mut command = command(program)?;
        command.stdout(writer.try_clone()?).stderr(writer);
        sys::prepare_child(&mut command, Preparation::default());
        Self::start(program, command, reader, Command::spawn)
    }

    /// Starts the VMM. Also returns what the guest writes to its console.
    pub(crate) fn vmm(program: &Program, endowment: Endowment) -> io::Result<(Self, Pump)> {
        let (reader, writer) = io::pipe()?;
        let (console, console_writer) = io::pipe()?;
        let console = Pump::new(console)?;
        let mut command = command(program)?;
        command.stdout(console_writer).stderr(writer);
        let Endowment { agent, files, neighbour } = endowment;
        // Numbered so high that no descriptor is in another's way.
        let agent = agent.map(|agent| sys::duplicate(agent.as_raw_fd(), FIRST_OWN)).transpose()?;
        let handed = agent.into_iter().map(|agent| (agent, AGENT_NUMBER)).collect();
        let mut preparation = Preparation { handed, files, ..Preparation::default() };
        let mut belongings = settings::apply(&program.settings, &mut preparation, neighbour)?;
        let is_init = preparation.is_init;
        if is_init {
            let (line, theirs) = Line::new()?;
            command.stdin(theirs);
            belongings.line = Some(line);
        }
        sys::prepare_child(&mut command, preparation);
        let start = |command: &mut Command| {
            if is_init { sys::spawn_init(command) } else { command.spawn() }
        };
        let child = Self::start(program, command, reader, start)?;
        Ok((Self { belongings, ..child }, console))
    }

    fn start(
        program: &Program,
        mut command: Command,
        reader: io::PipeReader,
        start: impl FnOnce(&mut Command) -> io::Result<process::Child>,
    ) -> io::Result<Self> {
        let name = program.arguments.first().map(|name| name.to_string_lossy().into_owned());
        let messages = Pump::new(reader)?;
        let handle = start(&mut command)?;
        let pid = handle.id();
        let process = Process::find(pid).unwrap_or(Process { pid, start_time: 0 });
        let arguments = program.arguments.clone();
        let (name, belongings) = (name.unwrap_or_default(), Belongings::default());
        Ok(Self { name, process, handle, arguments, messages, belongings })
    }

    /// Gives back the memory of what it needs no more once its guest runs.
    pub(crate) fn forget_copies(&mut self) {
        for copy in self.belongings.copies.drain(..) {
            let _ = copy.set_len(0);
        }
        if let Some(line) = &mut self.belongings.line {
            line.forget_copies();
        }
    }

    /// How it ended, if it has. Of one in a jail, how that ended which is in there.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.handle.try_wait().ok().flatten()?;
        Some(self.belongings.line.as_mut().and_then(Line::status).unwrap_or(status))
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
