//! `smolvm vm snapshot` and `smolvm vm restore`.

use std::path::Path;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use smolvm::{RestoreConfig, SmolVm, Snapshot};

use super::One;
use crate::cli::RestoreArgs;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::Session;
use crate::signals;

/// What is known of a snapshot, in JSON: docs/cli.md has the fields.
#[derive(Serialize)]
struct Object<'a> {
    id: &'a str,
    path: &'a Path,
    created: u64,
    digest: String,
}

#[derive(Serialize)]
struct Made<'a> {
    snapshot: Object<'a>,
}

/// Makes a snapshot. A signal has the VM go on before the command ends.
pub(super) fn make(session: &Session<'_>, id: &str, directory: &Path) -> Result<Exit, Failure> {
    let cancel = signals::cancel_token().map_err(|error| Failure::signals(&error))?;
    let vm = session.vms()?.open(id)?;
    let snapshot = vm.cancelled_by(&cancel).snapshot(directory)?;
    session.output.text(&format!("{}\n", snapshot.path().display()));
    session.output.json(&Made { snapshot: object(&snapshot) }, None);
    Ok(Exit::Done)
}

/// Makes a VM that goes on from a snapshot.
pub(super) fn restore(session: &Session<'_>, args: &RestoreArgs) -> Result<Exit, Failure> {
    let cancel = signals::cancel_token().map_err(|error| Failure::signals(&error))?;
    let timeout = Duration::from_secs(args.timeout);
    let mut config = RestoreConfig::new().detached(true).timeout(timeout).cancel(&cancel);
    if let Some(id) = &args.id {
        config = config.id(id)?;
    }
    if let Some(digest) = args.digest {
        config = config.digest(digest);
    }
    if let Some(directory) = session.vms_dir() {
        config = config.vms_dir(directory);
    }
    let snapshot = Snapshot::open(&args.directory).map_err(smolvm::VmError::from)?;
    let vm = SmolVm::restore(&snapshot, config)?;
    session.output.text(&format!("{}\n", vm.id()));
    session.output.json(&One { vm: &vm.info() }, None);
    Ok(Exit::Done)
}

fn object(snapshot: &Snapshot) -> Object<'_> {
    let created = snapshot.created().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Object {
        id: snapshot.id(),
        path: snapshot.path(),
        created: created.as_secs(),
        digest: snapshot.digest().to_string(),
    }
}
