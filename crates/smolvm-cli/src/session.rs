//! [`Session`]: one run of the command, from parsed options to an exit code.

use std::path::Path;

use smolvm::{ImageManager, Vms};

use crate::cli::{Command, GlobalOptions};
use crate::commands;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::logging;
use crate::output::Output;
use crate::progress::Progress;
use crate::settings::{self, Durability};
use crate::terminal::Terminal;

/// What every command is given.
#[derive(Debug)]
pub(crate) struct Session<'a> {
    pub(crate) options: &'a GlobalOptions,
    pub(crate) output: Output,
    pub(crate) terminal: Terminal,
}

impl<'a> Session<'a> {
    /// Sets up what is printed, and how.
    pub(crate) fn new(options: &'a GlobalOptions) -> Self {
        options.color.apply();
        let terminal = Terminal::stderr();
        logging::start(&terminal, options.quiet, options.verbose);
        let output = Output::new(options.json, terminal.clone());
        Self { options, output, terminal }
    }

    /// Runs a command to its end.
    pub(crate) fn run(self, command: &Command) -> Exit {
        let exit = commands::run(&self, command).unwrap_or_else(|failure| {
            self.output.failure(&failure);
            failure.exit
        });
        match self.output.finish() {
            Err(failure) if exit == Exit::Done => {
                self.terminal.error(&failure.message);
                failure.exit
            }
            _ => exit,
        }
    }

    /// The manager that the options describe.
    pub(crate) fn manager(&self) -> Result<ImageManager, Failure> {
        settings::manager(self.options, Durability::SyncedLater)
    }

    /// The directory of VMs that was given instead of the usual one.
    pub(crate) fn vms_dir(&self) -> Option<&Path> {
        settings::given(self.options.vms_dir.as_deref()).map(Path::new)
    }

    /// The VMs that the options are about.
    pub(crate) fn vms(&self) -> Result<Vms, Failure> {
        Ok(match self.vms_dir() {
            Some(directory) => Vms::at(directory)?,
            None => Vms::new()?,
        })
    }

    /// How progress is to be shown.
    pub(crate) fn progress(&self) -> Progress {
        if self.options.quiet || self.output.is_json() {
            Progress::Hidden
        } else if self.terminal.draws() {
            Progress::Bars(self.terminal.clone())
        } else {
            Progress::Lines(self.terminal.clone())
        }
    }
}
