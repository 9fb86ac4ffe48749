//! The commands, each in a module of its name.

mod completions;
mod doctor;
mod each;
mod exec;
mod inspect;
mod list;
mod machine;
mod path;
mod pin;
mod prune;
mod pull;
mod remove;
mod run;
mod verify;
mod vm;

use crate::cli::{Command, ImageCommand};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::Session;

/// Runs a command. An error is a failure that nothing was printed of.
pub(crate) fn run(session: &Session<'_>, command: &Command) -> Result<Exit, Failure> {
    match command {
        Command::Completions { shell } => {
            completions::run(session, *shell);
            Ok(Exit::Done)
        }
        Command::Run(args) => run::run(session, args),
        Command::Vm(command) => vm::run(session, command),
        Command::Doctor => Ok(doctor::run(session)),
        Command::Image(ImageCommand::List) => list::run(session),
        Command::Image(ImageCommand::Pull(args)) => pull::run(session, args),
        Command::Image(ImageCommand::Verify { names }) => verify::run(session, names),
        Command::Image(ImageCommand::Inspect { name }) => inspect::run(session, name),
        Command::Image(ImageCommand::Path(args)) => path::run(session, args),
        Command::Image(ImageCommand::Pin { name }) => pin::run(session, name),
        Command::Image(ImageCommand::Rm { names, force }) => remove::run(session, names, *force),
        Command::Image(ImageCommand::Prune(args)) => prune::run(session, args),
    }
}
