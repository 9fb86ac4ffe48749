//! The step `python` of `cargo xtask test`: builds the package's wheel, installs it into a new
//! virtual environment, and tests and checks it there.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::command::{self, command};
use crate::paths;

/// What is built and installed here.
struct Place {
    directory: PathBuf,
}

pub(crate) fn run() -> Result<()> {
    let place = Place { directory: paths::root().join("target/python") };
    place.make_environment()?;
    let wheel = place.build_wheel()?;
    place.pip(&["install", "--no-deps"], &[&wheel])?;

    command::run(place.program("ruff").args(["check", "--quiet", "python", "examples"]))?;
    command::run(
        place.program("ruff").args(["format", "--quiet", "--check", "python", "examples"]),
    )?;
    command::run(&mut place.program("mypy"))?;
    command::run(&mut place.program("pyright"))?;
    for package in ["smolvm", "pytest_smolvm"] {
        let mut complete = place.program("pyright");
        command::run(complete.args(["--verifytypes", package, "--ignoreexternal"]))?;
    }
    let mut tests = place.program("pytest");
    command::without_settings(&mut tests);
    command::run(tests.args(["--quiet", "--durations=5"]))
}

impl Place {
    /// A program of the environment, which finds the others there.
    fn program(&self, name: &str) -> Command {
        let bin = self.environment().join("bin");
        let mut program = command(bin.join(name));
        program.env("PATH", command::path_with(bin));
        program.env("VIRTUAL_ENV", self.environment());
        // pyright is a program for Node.js, which it installs beside itself the first time.
        program.env("PYRIGHT_PYTHON_CACHE_DIR", self.directory.join("pyright"));
        program.env("PYRIGHT_PYTHON_IGNORE_WARNINGS", "1");
        program.env("SMOLVM_TEST_IMAGES", paths::images());
        program
    }

    fn environment(&self) -> PathBuf {
        self.directory.join("venv")
    }

    /// Makes the environment anew, with all that is pinned.
    fn make_environment(&self) -> Result<()> {
        let mut venv = command("python3");
        command::run(venv.args(["-m", "venv", "--clear"]).arg(self.environment()))?;
        self.pip(
            &["install", "--only-binary=:all:", "--no-deps", "-r", "python/requirements.txt"],
            &[],
        )
    }

    /// Builds the wheel as `pip install .` does, but with the profile of the other tests: what they
    /// have compiled is not compiled again.
    fn build_wheel(&self) -> Result<PathBuf> {
        let dist = self.directory.join("dist");
        if dist.exists() {
            fs_err::remove_dir_all(&dist)?;
        }
        let mut build = self.program("python");
        build.args(["-m", "pip", "wheel", "--quiet", "--no-build-isolation", "--no-deps"]);
        build.args(["--config-settings=profile=dev", "--wheel-dir"]).arg(&dist).arg(".");
        command::run(&mut build)?;
        let mut entries = fs_err::read_dir(&dist)?;
        let wheel = entries.next().context("pip has built no wheel")??;
        Ok(wheel.path())
    }

    fn pip(&self, arguments: &[&str], files: &[&Path]) -> Result<()> {
        let mut pip = self.program("python");
        pip.args(["-m", "pip", "--quiet", "--disable-pip-version-check"]).args(arguments);
        command::run(pip.args(files))
    }
}
