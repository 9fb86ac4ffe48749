//! What is done to several VMs, one after the other: one that fails does not keep the others from
//! it.

use serde::Serialize;
use smolvm::{SmolVm, VmError};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::Session;

#[derive(Serialize)]
struct Done<'a> {
    id: &'a str,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Failure>,
}

#[derive(Serialize)]
struct All<'a> {
    vms: Vec<Done<'a>>,
}

pub(super) fn vms(
    session: &Session<'_>,
    ids: &[String],
    act: impl Fn(&SmolVm) -> Result<(), VmError>,
) -> Result<Exit, Failure> {
    let all = session.vms()?;
    let mut vms = Vec::new();
    for id in ids {
        let error = all.open(id).and_then(|vm| act(&vm)).err().map(Failure::from);
        match &error {
            Some(failure) if !session.output.is_json() => session.output.failure(failure),
            Some(_) => {}
            None => session.output.text(&format!("{id}\n")),
        }
        vms.push(Done { id, ok: error.is_none(), error });
    }
    let first = vms.iter().find_map(|done| done.error.clone());
    session.output.json(&All { vms }, first.as_ref());
    Ok(first.map_or(Exit::Done, |failure| failure.exit))
}
