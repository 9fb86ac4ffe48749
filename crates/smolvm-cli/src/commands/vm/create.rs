//! `smolvm vm create`: makes a VM that outlives this command.

use smolvm::{SmolVm, VmConfig};

use super::One;
use crate::cli::CreateArgs;
use crate::commands::machine;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::Session;

pub(super) fn run(session: &Session<'_>, args: &CreateArgs) -> Result<Exit, Failure> {
    let image = machine::open_image(session, &args.image)?;
    let config = VmConfig::from_image(&image)?.detached(true);
    let mut config = machine::configure(session, config, &args.machine);
    if let Some(id) = &args.id {
        config = config.id(id)?;
    }
    let vm = SmolVm::new(config)?;
    session.output.text(&format!("{}\n", vm.id()));
    session.output.json(&One { vm: &vm.info() }, None);
    Ok(Exit::Done)
}
