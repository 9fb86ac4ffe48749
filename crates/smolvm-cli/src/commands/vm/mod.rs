//! `smolvm vm …`: VMs that stay until they are ended by name.

mod cp;
mod create;
mod inspect;
mod ls;
mod prune;
mod several;
mod snapshot;

use std::time::Duration;

use serde::Serialize;
use smolvm::{SmolVm, VmInfo};

use super::exec::{self, Execution};
use crate::cli::VmCommand;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::Session;

pub(super) fn run(session: &Session<'_>, command: &VmCommand) -> Result<Exit, Failure> {
    match command {
        VmCommand::Create(args) => create::run(session, args),
        VmCommand::Start { ids, boot_timeout } => {
            let timeout = Duration::from_secs(*boot_timeout);
            several::vms(session, ids, |vm| vm.start_within(timeout))
        }
        VmCommand::Ls => ls::run(session),
        VmCommand::Exec { id, exec, command } => {
            let run = || {
                let execution = Execution::new(exec, command)?;
                exec::run(session, &session.vms()?.open(id)?, execution)
            };
            run().map_err(Failure::of_run)
        }
        VmCommand::Shell { id } => {
            let run = || exec::run(session, &session.vms()?.open(id)?, Execution::shell());
            run().map_err(Failure::of_run)
        }
        VmCommand::Logs { id } => {
            logs(session, &session.vms()?.open(id)?);
            Ok(Exit::Done)
        }
        VmCommand::Cp { source, destination } => cp::run(session, source, destination),
        VmCommand::Stop { ids, timeout } => {
            let timeout = Duration::from_secs(*timeout);
            several::vms(session, ids, |vm| vm.stop_within(timeout))
        }
        VmCommand::Pause { ids } => several::vms(session, ids, SmolVm::pause),
        VmCommand::Resume { ids } => several::vms(session, ids, SmolVm::resume),
        VmCommand::Snapshot { id, directory } => snapshot::make(session, id, directory),
        VmCommand::Restore(args) => snapshot::restore(session, args),
        VmCommand::Rm { ids } => several::vms(session, ids, SmolVm::delete),
        VmCommand::Prune(args) => prune::run(session, args),
        VmCommand::Inspect { id } => {
            inspect::run(session, &session.vms()?.open(id)?);
            Ok(Exit::Done)
        }
    }
}

/// What is known of a VM, in JSON: docs/cli.md has the fields.
#[derive(Serialize)]
struct One<'a> {
    vm: &'a VmInfo,
}

#[derive(Serialize)]
struct Logs<'a> {
    id: &'a str,
    console: String,
}

fn logs(session: &Session<'_>, vm: &SmolVm) {
    let log = vm.console_log();
    if session.output.is_json() {
        let console = String::from_utf8_lossy(&log).into_owned();
        session.output.json(&Logs { id: vm.id(), console }, None);
    } else {
        session.output.bytes(&log);
    }
}
