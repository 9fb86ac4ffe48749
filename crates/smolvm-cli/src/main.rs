//! The `smolvm` command: the only place in the project with a terminal.

mod cli;
mod commands;
mod exit;
mod failure;
mod image_object;
mod logging;
mod output;
mod progress;
mod raw_terminal;
mod session;
mod settings;
mod signals;
mod size;
mod streams;
mod style;
mod table;
mod terminal;
mod usage;

use std::mem::ManuallyDrop;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _};

use crate::cli::{Cli, Early};
use crate::session::Session;

fn main() -> ExitCode {
    let exit = match parse() {
        Ok(cli) => Session::new(&cli.options).run(&cli.command),
        Err(error) => usage::report(&error, Early::scan(std::env::args_os())),
    };
    exit.into()
}

/// What was typed. Taking down what describes all commands would be a fifth of what a short command
/// does in all: it is left to the end of the process.
fn parse() -> Result<Cli, clap::Error> {
    let mut command = ManuallyDrop::new(Cli::command());
    let matches = command.try_get_matches_from_mut(std::env::args_os())?;
    Cli::from_arg_matches_mut(&mut ManuallyDrop::new(matches))
        .map_err(|error| error.format(&mut command))
}
