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

use std::ffi::OsString;
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

/// What was typed. Taking down what describes the commands is left to the end of the process.
fn parse() -> Result<Cli, clap::Error> {
    let words: Vec<_> = std::env::args_os().collect();
    if let Some(narrow) = cli::narrow(&words)
        && let Ok(cli) = parse_as(narrow, &words)
    {
        return Ok(cli);
    }
    parse_as(Cli::command(), &words)
}

/// What was typed, to a description of the commands.
fn parse_as(description: clap::Command, words: &[OsString]) -> Result<Cli, clap::Error> {
    let mut description = ManuallyDrop::new(description);
    let matches = description.try_get_matches_from_mut(words)?;
    Cli::from_arg_matches_mut(&mut ManuallyDrop::new(matches))
        .map_err(|error| error.format(&mut description))
}
