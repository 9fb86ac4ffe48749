//! `smolvm run`: one command in a VM of its own, which is gone afterwards.

use std::time::Duration;

use smolvm::{Vm, VmConfig};

use super::exec::{self, Execution};
use super::machine;
use crate::cli::RunArgs;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::Session;

pub(super) fn run(session: &Session<'_>, args: &RunArgs) -> Result<Exit, Failure> {
    run_own(session, args).map_err(Failure::of_run)
}

fn run_own(session: &Session<'_>, args: &RunArgs) -> Result<Exit, Failure> {
    let execution = Execution::new(&args.exec, &args.command)?;
    let image = machine::open_image(session, &args.image)?;
    let config = machine::configure(session, VmConfig::from_image(&image)?, &args.machine);
    let vm = Vm::boot_within(config, Duration::from_secs(args.machine.boot_timeout))?;
    let exit = exec::run(session, &vm, execution);
    // What the command did counts, not how the machine ended; whatever is left of it ends with
    // this process.
    let _ = vm.delete();
    exit
}
