//! A command in a guest, with this process's streams and exit code: `smolvm run`, `vm exec` and
//! `vm shell`.

use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal as _};
use std::os::unix::ffi::OsStrExt as _;
use std::time::Duration;

use serde::Serialize;
use smolvm::{Command, CommandResult, SessionError, SmolVm, VmError};

use crate::cli::ExecArgs;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::raw_terminal::{self, RawTerminal};
use crate::session::Session;
use crate::streams;

/// A command as it was asked for.
#[derive(Debug)]
pub(super) struct Execution {
    command: Command,
    timeout: Option<Duration>,
    tty: bool,
}

/// What a command did, in JSON.
#[derive(Serialize)]
struct Executed<'a> {
    id: &'a str,
    exit_code: i32,
    signal: Option<i32>,
    stdout: String,
    stderr: String,
    duration_ms: u128,
}

impl Execution {
    /// The command of a command line; the guest's shell where there is none.
    pub(super) fn new(args: &ExecArgs, line: &[OsString]) -> Result<Self, Failure> {
        let tty = args.tty;
        if tty && !io::stdin().is_terminal() {
            let message = "standard input is no terminal, so -t has none to pass on. Leave -t out";
            return Err(Failure::usage(message.to_owned()));
        }
        let mut command = match line {
            [] => Command::shell("exec \"${SHELL:-/bin/sh}\" -l"),
            [program, arguments @ ..] => Command::new(program).args(arguments),
        };
        for variable in &args.env {
            let (name, value) = variable_of(variable)?;
            command = command.env(name, value);
        }
        if let Some(directory) = &args.workdir {
            command = command.cwd(directory);
        }
        if let Some(user) = &args.user {
            command = command.user(user);
        }
        Ok(Self { command, timeout: args.timeout.map(Duration::from_secs), tty })
    }

    /// The guest's shell in a terminal.
    pub(super) fn shell() -> Self {
        let command = Command::shell("exec \"${SHELL:-/bin/sh}\" -l");
        Self { command, timeout: None, tty: io::stdin().is_terminal() }
    }
}

/// `NAME=VALUE`, or `NAME` with the value that it has here.
fn variable_of(text: &OsStr) -> Result<(OsString, OsString), Failure> {
    let bytes = text.as_bytes();
    match bytes.iter().position(|&byte| byte == b'=') {
        Some(0) => Err(Failure::usage(format!("--env {} has no name", text.to_string_lossy()))),
        Some(at) => {
            let (name, value) = (&bytes[..at], &bytes[at + 1..]);
            Ok((OsStr::from_bytes(name).to_owned(), OsStr::from_bytes(value).to_owned()))
        }
        None => {
            let value = std::env::var_os(text).ok_or_else(|| {
                let name = text.to_string_lossy();
                Failure::usage(format!(
                    "--env {name}: {name} is not set here. Give it a value: --env {name}=VALUE"
                ))
            })?;
            Ok((text.to_owned(), value))
        }
    }
}

/// Runs a command in a running VM.
pub(super) fn run(
    session: &Session<'_>,
    vm: &SmolVm,
    execution: Execution,
) -> Result<Exit, Failure> {
    let Execution { command, timeout, tty } = execution;
    if session.output.is_json() {
        let command = match timeout {
            Some(timeout) => command.timeout(timeout),
            None => command.no_timeout(),
        };
        return capture(session, vm, command);
    }
    let command = match raw_terminal::size().filter(|_| tty) {
        Some(size) => {
            let term = std::env::var_os("TERM").unwrap_or_else(|| "xterm".into());
            command.terminal(size).env("TERM", term)
        }
        None => command,
    };
    let process = vm.popen(command.stdin_piped())?;
    let raw = if tty { RawTerminal::enter() } else { Ok(None) };
    let raw = raw.map_err(|error| Failure::terminal(&error))?;
    let status = streams::pass_on(process, timeout);
    drop(raw);
    let status = status.map_err(|source| vm_error(vm, source))?;
    Ok(status.map_or(Exit::TimedOut, |status| Exit::of_guest(status.exit_code())))
}

/// Runs a command to its end, and prints what it wrote as JSON.
fn capture(session: &Session<'_>, vm: &SmolVm, command: Command) -> Result<Exit, Failure> {
    let result: CommandResult = if io::stdin().is_terminal() {
        // Nobody is asked to type what goes into a capture.
        vm.run(command)?
    } else {
        vm.run_with_stdin(command, io::stdin())?
    };
    let exit = Exit::of_guest(result.exit_code);
    let executed = Executed {
        id: vm.id(),
        exit_code: result.exit_code,
        signal: result.signal(),
        stdout: result.stdout().into_owned(),
        stderr: result.stderr().into_owned(),
        duration_ms: result.duration.as_millis(),
    };
    session.output.json(&executed, None);
    Ok(exit)
}

fn vm_error(vm: &SmolVm, source: SessionError) -> VmError {
    VmError::Session { id: vm.id().to_owned(), source }
}
