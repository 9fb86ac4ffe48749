//! `ip` and `nft`, told many things at once, all of which are done or an error.

use std::io::{self, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::sys;

/// Has `ip` (`ip(8)`) do these lines, in the network namespace of the calling thread.
pub(super) fn ip(program: &Path, lines: &[String]) -> io::Result<()> {
    run(program, &["-4", "-batch", "-"], &lines.join("\n"))
}

/// Has `nft` (`nft(8)`) do this, all of it at once, in the network namespace of the calling thread.
pub(super) fn nft(program: &Path, script: &str) -> io::Result<()> {
    run(program, &["-f", "-"], script)
}

fn run(program: &Path, arguments: &[&str], input: &str) -> io::Result<()> {
    let failed = |why: String| io::Error::other(format!("{}: {why}", program.display()));
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    sys::end_with_parent(&mut command);
    let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
    let written = match child.stdin.take() {
        Some(mut stdin) => stdin.write_all(input.as_bytes()),
        None => Ok(()),
    };
    let output = child.wait_with_output()?;
    if output.status.success() {
        return written;
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().find(|line| !line.trim().is_empty()).unwrap_or("it fails");
    Err(failed(said.to_owned()))
}
