//! Rust's standard library for guests of another architecture, without which the agent for them is
//! not built.

use std::path::Path;

use anyhow::Result;

use crate::command::{self, command};
use crate::term;

/// What the agent for arm64 is compiled for.
const TARGET: &str = "aarch64-unknown-linux-musl";

/// Whether it is yet to be installed. On other processors than x86-64, no test needs it.
pub(crate) fn is_missing() -> bool {
    let mut rustc = command("rustc");
    rustc.args(["--print", "target-libdir", "--target", TARGET]);
    let directory = command::capture(&mut rustc).unwrap_or_default();
    cfg!(target_arch = "x86_64") && !Path::new(directory.trim()).is_dir()
}

/// Adds it to the toolchain, where that is rustup's. Debian's compiler comes with no such library.
pub(crate) fn install() -> Result<()> {
    if command::find("rustup").is_none() {
        term::note(&format!(
            "there is no rustup to install the standard library for {TARGET} with: the agent for \
             guests of arm64 is not built, and their test is skipped"
        ));
        return Ok(());
    }
    term::note(&format!("missing: the standard library for {TARGET}"));
    let mut add = command("rustup");
    add.args(["target", "add", TARGET]);
    term::command(&command::describe(&add));
    command::capture(&mut add).map(drop)
}
