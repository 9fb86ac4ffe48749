//! Virtual environments for what is measured in Python, under `target/bench`.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::command::{self, command};
use crate::{paths, term};

/// A virtual environment.
#[derive(Debug, Clone)]
pub(crate) struct Environment {
    directory: PathBuf,
}

impl Environment {
    /// Makes the one of that name where there is none, and has pip install what is not yet there,
    /// ready-made, by these arguments.
    pub(crate) fn ensure(name: &str, arguments: &[&str]) -> Result<Self> {
        let environment = Self { directory: paths::bench().join(name) };
        if !environment.python().is_file() {
            let mut venv = command("python3");
            command::capture(venv.args(["-m", "venv"]).arg(&environment.directory))?;
        }
        let stamp = environment.directory.join("packages");
        let wanted = arguments.join("\n");
        if fs_err::read_to_string(&stamp).ok().as_deref() != Some(&wanted) {
            environment.pip("install", &["--only-binary=:all:"], arguments)?;
            fs_err::write(&stamp, wanted)?;
        }
        Ok(environment)
    }

    /// Builds this project's package as it is released, and installs it.
    pub(crate) fn install_own(&self) -> Result<()> {
        let dist = self.directory.join("dist");
        super::contender::empty(&dist)?;
        let directory = dist.to_string_lossy();
        let options = ["--no-build-isolation", "--no-deps", "--wheel-dir", &directory];
        self.pip("wheel", &options, &["."])?;
        let wheel = fs_err::read_dir(&dist)?.next().context("pip has built no wheel")??.path();
        let wheel = wheel.to_string_lossy();
        self.pip("install", &["--no-deps", "--no-index", "--force-reinstall"], &[&wheel])
    }

    /// A Python that finds what is installed, with none of the user's settings.
    pub(crate) fn script(&self, text: &str) -> Command {
        let mut script = command(self.python());
        command::without_settings(&mut script);
        script.args(["-c", text]);
        script
    }

    fn python(&self) -> PathBuf {
        self.bin().join("python3")
    }

    fn bin(&self) -> PathBuf {
        self.directory.join("bin")
    }

    fn pip(&self, what: &str, options: &[&str], arguments: &[&str]) -> Result<()> {
        let mut pip = command(self.python());
        // A build finds its tools there.
        pip.env("PATH", command::path_with(self.bin())).env("VIRTUAL_ENV", &self.directory);
        pip.args(["-m", "pip", what, "--quiet", "--disable-pip-version-check"]);
        pip.args(options).args(arguments);
        term::command(&command::describe(&pip));
        command::capture(&mut pip).map(drop)
    }
}
