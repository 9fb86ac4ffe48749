//! Rust's standard library for guests of another architecture, without which the agent for them is
//! not built.

use std::path::Path;

use crate::command::{self, command};
use crate::term;

/// What the agent for arm64 is compiled for.
const TARGET: &str = "aarch64-unknown-linux-musl";

/// Why it may be missing after all was set up.
pub(crate) const REASON: &str = "Rust's standard library for aarch64-unknown-linux-musl, which the \
     agent for guests of arm64 is built with, is offered to rustup alone, and could not be had";

/// Whether it is yet to be installed. On other processors than x86-64, no test needs it.
pub(crate) fn is_missing() -> bool {
    let mut rustc = command("rustc");
    rustc.args(["--print", "target-libdir", "--target", TARGET]);
    let directory = command::capture(&mut rustc).unwrap_or_default();
    cfg!(target_arch = "x86_64") && !Path::new(directory.trim()).is_dir()
}

/// Adds it to the toolchain, where that is rustup's and its server is reached: it is in no registry
/// of packages, and everything but one test does without it.
pub(crate) fn install() {
    term::note(&format!("missing: the standard library for {TARGET}"));
    let mut add = command("rustup");
    add.args(["target", "add", TARGET]);
    term::command(&command::describe(&add));
    if let Err(error) = command::capture(&mut add) {
        term::note(&format!("{REASON}: {error:#}"));
    }
}
