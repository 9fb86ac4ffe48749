//! [`Command`]: what to run in a guest, and with what around it.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use smolvm_protocol::{Exec, HEADER, MAX_PAYLOAD, Program, Request, WindowSize};

use super::error::SessionError;

/// A command for a guest, in the manner of [`std::process::Command`].
///
/// ```
/// use std::time::Duration;
/// use smolvm_vm::Command;
///
/// let shell = Command::shell("grep -c ^processor /proc/cpuinfo").timeout(Duration::from_secs(5));
/// let direct = Command::new("wc").arg("-c").stdin("12345").env("LC_ALL", "C").cwd("/tmp");
/// assert_eq!(direct.to_string(), "`wc -c`");
/// // Where a command is asked for, a text is a line for the shell, a list is run as it is.
/// assert_eq!(Command::from("echo $HOME").to_string(), "`echo $HOME`");
/// assert_eq!(Command::from(["ls", "-l"]).to_string(), "`ls -l`");
/// ```
#[derive(Clone, PartialEq, Eq)]
#[must_use = "a command does nothing until it is run"]
pub struct Command {
    program: CommandLine,
    env: Vec<(OsString, OsString)>,
    pub(super) cwd: Option<PathBuf>,
    pub(super) user: Option<String>,
    pub(super) input: Input,
    pub(super) timeout: Option<Duration>,
    pub(super) max_output: u64,
    pub(super) terminal: Option<WindowSize>,
}

#[derive(Clone, PartialEq, Eq)]
enum CommandLine {
    Shell(OsString),
    Arguments(Vec<OsString>),
}

/// Where standard input comes from.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Input {
    /// It is empty.
    Empty,
    /// These bytes, then it ends.
    Bytes(Vec<u8>),
    /// What is written to the process by its [`ProcessStdin`](super::ProcessStdin).
    Piped,
}

impl Command {
    /// How long a command may run where nothing else is said.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

    /// How many bytes of output are captured where nothing else is said: 64 MiB.
    pub const DEFAULT_MAX_OUTPUT: u64 = 64 * 1024 * 1024;

    /// The longest command that is shown in messages, in characters.
    const MAX_SHOWN: usize = 120;

    /// A line for the guest's shell (`sh -c`).
    pub fn shell(line: impl AsRef<OsStr>) -> Self {
        Self::with(CommandLine::Shell(line.as_ref().to_owned()))
    }

    /// A program, by its path or a name to be searched for in the guest's `PATH`.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self::with(CommandLine::Arguments(vec![program.as_ref().to_owned()]))
    }

    /// A program and its arguments, all in one list.
    fn list(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        let arguments = arguments.into_iter().map(|argument| argument.as_ref().to_owned());
        Self::with(CommandLine::Arguments(arguments.collect()))
    }

    fn with(program: CommandLine) -> Self {
        Self {
            program,
            env: Vec::new(),
            cwd: None,
            user: None,
            input: Input::Empty,
            timeout: Some(Self::DEFAULT_TIMEOUT),
            max_output: Self::DEFAULT_MAX_OUTPUT,
            terminal: None,
        }
    }

    /// Adds an argument. For a line of the shell it is one of its positional parameters, from
    /// `$1` on.
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        let argument = argument.as_ref().to_owned();
        match &mut self.program {
            CommandLine::Arguments(arguments) => arguments.push(argument),
            CommandLine::Shell(line) => {
                let line = std::mem::take(line);
                let shell = ["sh".into(), "-c".into(), line, "sh".into(), argument];
                self.program = CommandLine::Arguments(shell.into());
            }
        }
        self
    }

    /// Adds arguments, as [`arg`](Self::arg) does.
    pub fn args(self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        arguments.into_iter().fold(self, Self::arg)
    }

    /// Adds a variable to the environment, over those that the guest sets.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Adds variables to the environment.
    pub fn envs(
        self,
        variables: impl IntoIterator<Item = (impl AsRef<OsStr>, impl AsRef<OsStr>)>,
    ) -> Self {
        variables.into_iter().fold(self, |command, (name, value)| command.env(name, value))
    }

    /// Adds a variable to the environment unless the command has one of that name.
    pub(crate) fn default_env(self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        let is_set = self.env.iter().any(|(set, _)| set == name.as_ref());
        if is_set { self } else { self.env(name, value) }
    }

    /// The working directory in the guest; the user's home directory where none is given.
    pub fn cwd(mut self, directory: impl AsRef<Path>) -> Self {
        self.cwd = Some(directory.as_ref().to_owned());
        self
    }

    /// The user to run as: a name that the guest knows, or `uid` or `uid:gid` in digits; root
    /// where none is given.
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// What the command reads from its standard input; nothing where it is not given.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = Input::Bytes(bytes.into());
        self
    }

    /// Standard input is what is written to [`Process::take_stdin`](super::Process::take_stdin).
    pub fn stdin_piped(mut self) -> Self {
        self.input = Input::Piped;
        self
    }

    /// How long the command may run before it is killed with all of its process group; 30 s where
    /// nothing else is said. For [`spawn`](super::Session::spawn): how long it may take to start.
    pub fn timeout(mut self, after: Duration) -> Self {
        self.timeout = Some(after);
        self
    }

    /// Lets the command run for as long as it wants to.
    pub fn no_timeout(mut self) -> Self {
        self.timeout = None;
        self
    }

    /// How many bytes of output, over both streams, [`run`](super::Session::run) keeps; 64 MiB
    /// where nothing else is said. A command that writes more is killed, and that is an error.
    pub fn max_output(mut self, bytes: u64) -> Self {
        self.max_output = bytes;
        self
    }

    /// Runs the command in a terminal of this size. Its standard error is its standard output
    /// then.
    pub fn terminal(mut self, size: WindowSize) -> Self {
        self.terminal = Some(size);
        self
    }

    /// What the guest is asked for.
    pub(super) fn request(&self) -> Result<Request, SessionError> {
        self.validate()?;
        let program = match &self.program {
            CommandLine::Shell(line) => Program::Shell(line.as_bytes().to_vec()),
            CommandLine::Arguments(arguments) => {
                Program::Arguments(arguments.iter().map(|a| a.as_bytes().to_vec()).collect())
            }
        };
        let bytes = |(name, value): &(OsString, OsString)| {
            (name.as_bytes().to_vec(), value.as_bytes().to_vec())
        };
        let exec = Exec {
            program,
            env: self.env.iter().map(bytes).collect(),
            cwd: self.cwd.as_ref().map(|cwd| cwd.as_os_str().as_bytes().to_vec()),
            user: self.user.clone(),
            stdin: self.input != Input::Empty,
            terminal: self.terminal,
        };
        let request = Request::Exec(exec);
        let mut frame = Vec::new();
        request.encode(0, &mut frame);
        let length = frame.len() - HEADER;
        if length > MAX_PAYLOAD {
            return Err(SessionError::CommandTooLong { command: self.to_string(), length });
        }
        Ok(request)
    }

    /// Refuses what `execve` has no way to say.
    fn validate(&self) -> Result<(), SessionError> {
        let texts: Vec<&OsStr> = match &self.program {
            CommandLine::Shell(line) => vec![line],
            CommandLine::Arguments(arguments) => arguments.iter().map(AsRef::as_ref).collect(),
        };
        let has_nul = |text: &OsStr| text.as_bytes().contains(&0);
        let is_empty = match &self.program {
            CommandLine::Shell(_) => false,
            CommandLine::Arguments(arguments) => {
                arguments.first().is_none_or(|name| name.is_empty())
            }
        };
        let reason = if is_empty {
            "it has no program"
        } else if texts.iter().any(|text| has_nul(text)) {
            "an argument has a NUL byte"
        } else if self.env.iter().any(|(name, value)| has_nul(name) || has_nul(value)) {
            "its environment has a NUL byte"
        } else if self
            .env
            .iter()
            .any(|(name, _)| name.is_empty() || name.as_bytes().contains(&b'='))
        {
            "the name of a variable is empty or has an equals sign"
        } else if self.cwd.as_deref().is_some_and(|cwd| has_nul(cwd.as_os_str())) {
            "its working directory has a NUL byte"
        } else {
            return Ok(());
        };
        Err(SessionError::InvalidCommand { command: self.to_string(), reason })
    }
}

impl From<&str> for Command {
    fn from(line: &str) -> Self {
        Self::shell(line)
    }
}

impl From<String> for Command {
    fn from(line: String) -> Self {
        Self::shell(line)
    }
}

impl From<&Command> for Command {
    fn from(command: &Command) -> Self {
        command.clone()
    }
}

impl<S: AsRef<OsStr>, const N: usize> From<[S; N]> for Command {
    fn from(arguments: [S; N]) -> Self {
        Self::list(arguments)
    }
}

impl<S: AsRef<OsStr>> From<&[S]> for Command {
    fn from(arguments: &[S]) -> Self {
        Self::list(arguments)
    }
}

impl<S: AsRef<OsStr>> From<Vec<S>> for Command {
    fn from(arguments: Vec<S>) -> Self {
        Self::list(arguments)
    }
}

/// As messages show it: without its environment, in backquotes, cut where it is long.
impl fmt::Display for Command {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = match &self.program {
            CommandLine::Shell(line) => line.to_string_lossy().into_owned(),
            CommandLine::Arguments(arguments) => {
                arguments.join(OsStr::new(" ")).to_string_lossy().into_owned()
            }
        };
        let mut shown: String = line
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .take(Self::MAX_SHOWN)
            .collect();
        if shown.len() < line.len() {
            shown.push('…');
        }
        write!(formatter, "`{shown}`")
    }
}

/// Values of the environment and of standard input may be secret, so only how many there are is
/// shown.
impl fmt::Debug for Command {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let input = match &self.input {
            Input::Empty => "empty".to_owned(),
            Input::Bytes(bytes) => format!("{} bytes", bytes.len()),
            Input::Piped => "piped".to_owned(),
        };
        formatter
            .debug_struct("Command")
            .field("line", &self.to_string())
            .field("env", &self.env.iter().map(|(name, _)| name).collect::<Vec<_>>())
            .field("cwd", &self.cwd)
            .field("user", &self.user)
            .field("stdin", &input)
            .field("timeout", &self.timeout)
            .field("max_output", &self.max_output)
            .field("terminal", &self.terminal)
            .finish_non_exhaustive()
    }
}
