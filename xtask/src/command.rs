//! Running other programs, with errors that show the command line.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context as _, Result, bail};

use crate::{paths, term};

/// A command that finds the tools under `target` and, also for users who are
/// not root, the programs in the system's `sbin` directories.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env("PATH", search_path()).current_dir(paths::root());
    command
}

/// The same, for a program that must not outlive this one, however it ends.
pub(crate) fn tied_command(program: impl AsRef<OsStr>) -> Command {
    let mut command = command(TIE[0]);
    command.args(&TIE[1..]).arg(program);
    command
}

/// The kernel ends what runs behind these words when its parent ends.
const TIE: [&str; 4] = ["setpriv", "--pdeathsig", "KILL", "--"];

/// Where `program` is, if it is installed.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    env::split_paths(&search_path()).map(|dir| dir.join(program)).find(|path| path.is_file())
}

/// Shows the command line, runs it on this terminal, and fails if it fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    term::command(&describe(command));
    let status = command.status().with_context(|| cannot_start(command))?;
    if !status.success() {
        bail!("`{}` failed ({status})", describe(command));
    }
    Ok(())
}

/// Runs a command and returns what it printed on standard output.
pub(crate) fn capture(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| cannot_start(command))?;
    if !output.status.success() {
        bail!("`{}` failed ({}){}", describe(command), output.status, end_of(&output));
    }
    String::from_utf8(output.stdout)
        .with_context(|| format!("`{}` printed something that is not text", describe(command)))
}

/// The command as one would type it, paths inside the work tree shortened.
pub(crate) fn describe(command: &Command) -> String {
    let words: Vec<_> = std::iter::once(command.get_program()).chain(command.get_args()).collect();
    // How a program is tied to this one is not what the reader is after.
    let words = match words.as_slice() {
        [first, _, _, _, rest @ ..] if *first == TIE[0] => rest,
        all => all,
    };
    words.iter().map(|word| shorten(word)).collect::<Vec<_>>().join(" ")
}

fn shorten(word: &OsStr) -> String {
    let path = Path::new(word);
    let short = path.strip_prefix(paths::root()).unwrap_or(path);
    let text = short.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@%+".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.into_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

fn cannot_start(command: &Command) -> String {
    format!("cannot start `{}`; `cargo xtask setup` installs what is missing", describe(command))
}

fn end_of(output: &Output) -> String {
    const LINES: usize = 20;
    let text = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<_> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(LINES)..].iter().fold(String::new(), |mut all, line| {
        all.push_str("\n    ");
        all.push_str(line);
        all
    })
}

fn search_path() -> OsString {
    let path = env::var_os("PATH").unwrap_or_default();
    let dirs = std::iter::once(paths::tools().join("bin"))
        .chain(env::split_paths(&path))
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    // Only a directory with a colon in its name cannot be joined.
    env::join_paths(dirs).unwrap_or(path)
}

/// The search path with a directory before all others.
pub(crate) fn path_with(first: PathBuf) -> OsString {
    let path = env::var_os("PATH").unwrap_or_default();
    let dirs = std::iter::once(first).chain(env::split_paths(&path));
    // Only a directory with a colon in its name cannot be joined.
    env::join_paths(dirs).unwrap_or(path)
}

/// Takes away what the person at this terminal has set for `smolvm` and for clients of HTTP: the
/// servers of a test or of the quickstart are on loopback.
pub(crate) fn without_settings(command: &mut Command) {
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"] {
        command.env_remove(name).env_remove(name.to_lowercase());
    }
    for name in ["CACHE_DIR", "REGISTRY", "OFFLINE", "VERIFY", "CA_FILE", "BEARER_TOKENS"] {
        command.env_remove(format!("SMOLVM_{name}"));
    }
    for name in ["FIRECRACKER", "JAILER"] {
        command.env_remove(format!("SMOLVM_{name}"));
    }
    command.env_remove("NETRC");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_command_shows_its_line_status_and_the_end_of_what_it_said() {
        let mut command = command("sh");
        let error = capture(command.args(["-c", "echo reason >&2; exit 3"])).unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains("sh -c 'echo reason >&2; exit 3'"), "{text}");
        assert!(text.contains("exit status: 3"), "{text}");
        assert!(text.ends_with("\n    reason"), "{text}");
    }

    #[test]
    fn a_missing_program_points_to_setup() {
        let error = capture(&mut command("no-such-program-anywhere")).unwrap_err();
        assert!(format!("{error:#}").contains("cargo xtask setup"), "{error:#}");
    }
}
