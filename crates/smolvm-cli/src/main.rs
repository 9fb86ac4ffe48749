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

use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::{Cli, Early};
use crate::session::Session;

fn main() -> ExitCode {
    let exit = match Cli::try_parse() {
        Ok(cli) => Session::new(&cli.options).run(&cli.command),
        Err(error) => usage::report(&error, Early::scan(std::env::args_os())),
    };
    exit.into()
}
