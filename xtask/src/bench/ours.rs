//! [`Ours`]: our own program, as a contender.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

use super::contender::{Contender, empty};
use super::peers::{sh, shell_words};
use super::python::OwnPython;
use super::rig::{Download, Rig};
use crate::command::{self, command};

// What those that are held against others than the first are called in tables.
pub(crate) const RUST_IN_PROCESS: &str = "ensure_image, Rust, in process";
pub(crate) const PYTHON_IN_PROCESS: &str = "ensure_image, Python, in process";
pub(crate) const PYTHON_WHOLE: &str = "ensure_image, Python, whole process";
pub(crate) const PYTHON_START: &str = "python3 -c pass";

/// Our program with a registry of some images and a cache of its own.
pub(crate) struct Ours<'a> {
    rig: &'a Rig,
    registry: PathBuf,
    cache: PathBuf,
    images: usize,
}

impl<'a> Ours<'a> {
    /// Images of two files in turn.
    pub(crate) fn new(rig: &'a Rig, name: &str, files: &[Download]) -> Result<Self> {
        let registry = rig.registry(name, files)?;
        let cache = rig.scratch.join(format!("{name}-cache"));
        Ok(Self { rig, registry, cache, images: files.len() / 2 })
    }

    /// With everything in the cache.
    pub(crate) fn filled(self) -> Result<Self> {
        empty(&self.cache)?;
        let mut pull = self.pull_command();
        command::capture(pull.args(["--sync", "--verify", "changed"]))?;
        Ok(self)
    }

    /// Fetches all images into an empty cache.
    pub(crate) fn pull(&self) -> Contender {
        let line = again(&self.pull_command());
        Contender::new("smolvm image pull", line).into_empty(&self.cache)
    }

    /// The same by many processes at once.
    pub(crate) fn pull_at_once(&self, processes: usize) -> Contender {
        let pull = shell_words(&self.pull_command());
        let settings = self.rig.scratch.join("home");
        let line = format!(
            "for n in $(seq {processes}); do HOME='{}' {pull} & pids=\"$pids $!\"; done; \
             for pid in $pids; do wait $pid || exit 1; done",
            settings.display()
        );
        let name = format!("{processes} x smolvm image pull");
        Contender::new(&name, move || sh(&line)).into_empty(&self.cache)
    }

    /// Finds all images cached.
    pub(crate) fn pull_cached(&self, policy: &str) -> Contender {
        let mut pull = self.pull_command();
        pull.args(["--verify", policy]);
        Contender::new("smolvm image pull", again(&pull))
    }

    /// Finds the first image cached, again and again in one process.
    pub(crate) fn call_cached(&self, policy: &str, calls: u32) -> Contender {
        Contender::new(RUST_IN_PROCESS, again(&self.call_command(policy, calls))).in_process()
    }

    /// The same once, with the start of a program that calls the library.
    pub(crate) fn call_cached_once(&self, policy: &str) -> Contender {
        Contender::new("ensure_image, Rust, whole process", again(&self.call_command(policy, 1)))
    }

    /// Finds the first image cached, again and again in one Python.
    pub(crate) fn python_cached(&self, policy: &str, calls: u32) -> Contender {
        self.python(PYTHON_IN_PROCESS, self.python_command(policy, calls)).in_process()
    }

    /// The same once, with the start of the interpreter and all that is imported.
    pub(crate) fn python_cached_once(&self, policy: &str) -> Contender {
        self.python(PYTHON_WHOLE, self.python_command(policy, 1))
    }

    /// The least that a Python takes here.
    pub(crate) fn python_start(&self) -> Contender {
        self.python(PYTHON_START, |python| python.line("pass"))
    }

    /// What there is to import before a call.
    pub(crate) fn python_import(&self) -> Contender {
        self.python("python3 -c 'import smolvm'", |python| python.line("import smolvm"))
    }

    fn python(&self, name: &str, made: impl FnOnce(&OwnPython) -> Command) -> Contender {
        match &self.rig.own_python {
            Ok(python) => Contender::new(name, again(&made(python))),
            Err(reason) => Contender::missing(name, reason.clone()),
        }
    }

    fn python_command(&self, policy: &str, calls: u32) -> impl FnOnce(&OwnPython) -> Command {
        move |python| {
            let mut call =
                python.ensure_image(&self.registry, &self.cache, "image-0", calls, policy);
            call.env("HOME", self.rig.scratch.join("home"));
            call
        }
    }

    fn call_command(&self, policy: &str, calls: u32) -> Command {
        let mut call = command(&self.rig.in_process);
        command::without_settings(&mut call);
        call.env("HOME", self.rig.scratch.join("home"));
        call.arg(&self.registry).arg(&self.cache).arg("image-0").arg(calls.to_string());
        call.arg(policy);
        call
    }

    /// Lets a pull fail in the middle, and keeps what it left.
    pub(crate) fn broken_off(&self, cut: impl FnOnce(), mend: impl FnOnce()) -> Result<PathBuf> {
        empty(&self.cache)?;
        cut();
        let mut pull = self.pull_command();
        let ended = pull.args(["--attempts", "1"]).output()?;
        mend();
        ensure!(!ended.status.success(), "the pull that was to break off did not");
        let kept = self.cache.with_extension("kept");
        empty(&kept)?;
        copy_into(&self.cache, &kept)?;
        Ok(kept)
    }

    /// Goes on from what another pull has left.
    pub(crate) fn pull_after(&self, left: &Path) -> Contender {
        let (left, cache) = (left.to_owned(), self.cache.clone());
        self.pull().prepared(move || copy_into(&left, &cache))
    }

    /// Says where the first image lies.
    pub(crate) fn path(&self) -> Contender {
        let mut path = self.rig.smolvm(&self.registry, &self.cache);
        path.args(["image", "path", "image-0"]);
        Contender::new("smolvm image path", again(&path))
    }

    /// The least that our program does.
    pub(crate) fn version(&self) -> Contender {
        let mut version = command(&self.rig.smolvm);
        version.arg("--version");
        Contender::new("smolvm --version", again(&version))
    }

    fn pull_command(&self) -> Command {
        let mut pull = self.rig.smolvm(&self.registry, &self.cache);
        pull.env("SMOLVM_CA_FILE", &self.rig.certificate);
        pull.args(["image", "pull", "--quiet"]);
        pull.args((0..self.images).map(|number| format!("image-{number}")));
        pull
    }
}

/// A maker of copies of a command.
pub(super) fn again(made: &Command) -> impl Fn() -> Command + 'static {
    let copy = super::peers::copy_of(made);
    move || super::peers::copy_of(&copy)
}

/// Copies what is in a directory into another one.
fn copy_into(from: &Path, to: &Path) -> Result<()> {
    let mut copy = command("cp");
    copy.args(["--archive", "--no-target-directory"]).arg(from).arg(to);
    command::capture(&mut copy).map(drop)
}
