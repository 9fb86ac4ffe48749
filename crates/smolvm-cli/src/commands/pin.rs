//! `smolvm image pin`: a registry entry with the digests that were seen.

use serde::Serialize;

use crate::exit::Exit;
use crate::failure::{Failure, IntoFailure as _};
use crate::session::Session;
use crate::signals;

#[derive(Serialize)]
struct Pinned<'a> {
    name: &'a str,
    toml: String,
    pins: Vec<Pin>,
}

#[derive(Serialize)]
struct Pin {
    kind: smolvm::AssetKind,
    digest: Option<smolvm::Digest>,
}

pub(super) fn run(session: &Session<'_>, name: &str) -> Result<Exit, Failure> {
    let manager = session.manager()?;
    let options = signals::fetch_options()?;
    let source = manager.pin(name, &options).map_err(|error| error.into_failure(name))?;
    let toml = source.to_registry_toml();
    session.output.text(&toml);
    let pins =
        source.assets().map(|asset| Pin { kind: asset.kind, digest: asset.digest }).collect();
    session.output.json(&Pinned { name, toml, pins }, None);
    Ok(Exit::Done)
}
