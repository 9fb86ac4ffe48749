//! `smolvm completions`: a script for a shell.

use clap::CommandFactory as _;
use clap_complete::Shell;
use serde::Serialize;

use crate::cli::Cli;
use crate::session::Session;

#[derive(Serialize)]
struct Completions {
    shell: String,
    script: String,
}

pub(super) fn run(session: &Session<'_>, shell: Shell) {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "smolvm", &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    session.output.text(&script);
    session.output.json(&Completions { shell: shell.to_string(), script }, None);
}
