//! [`Contender`]: a program that is measured, and what must be so before it runs.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use super::measure;
use super::sample::Sample;

/// A program that is measured.
pub(crate) struct Contender {
    pub(crate) name: String,
    command: Box<dyn Fn() -> Command>,
    prepare: Box<dyn Fn() -> Result<()>>,
    /// Made empty before each run and removed after it, so that nothing of one run is still
    /// being written to the disk in the next.
    output: Option<PathBuf>,
    /// Whether it makes the same call many times and says by itself how long one took.
    in_process: bool,
    /// Why it cannot run.
    missing: Option<String>,
}

impl Contender {
    pub(crate) fn new(name: &str, command: impl Fn() -> Command + 'static) -> Self {
        Self {
            name: name.to_owned(),
            command: Box::new(command),
            prepare: Box::new(|| Ok(())),
            output: None,
            in_process: false,
            missing: None,
        }
    }

    /// One that cannot run, and why: it is missing from the results, and the others are not.
    pub(crate) fn missing(name: &str, reason: String) -> Self {
        Self { missing: Some(reason), ..Self::new(name, || Command::new("false")) }
    }

    /// Begins with an empty directory each time.
    pub(crate) fn into_empty(mut self, directory: &Path) -> Self {
        self.output = Some(directory.to_owned());
        self
    }

    /// Does this before each run, after the directory was emptied.
    pub(crate) fn prepared(mut self, prepare: impl Fn() -> Result<()> + 'static) -> Self {
        self.prepare = Box::new(prepare);
        self
    }

    /// Makes the same call many times and says by itself how long one took.
    pub(crate) fn in_process(mut self) -> Self {
        self.in_process = true;
        self
    }

    /// Runs it once. `wire` tells what the server has sent since it was last asked.
    pub(crate) fn run(&self, wire: Option<&dyn Fn() -> u64>) -> Result<Sample> {
        if let Some(reason) = &self.missing {
            bail!("{reason}");
        }
        if let Some(output) = &self.output {
            empty(output)?;
        }
        (self.prepare)()?;
        if let Some(wire) = wire {
            wire();
        }
        let command = (self.command)();
        let mut sample = if self.in_process {
            measure::run_in_process(&command)?
        } else {
            measure::run(&command)?
        };
        sample.wire_bytes = wire.map(|wire| wire());
        if let Some(output) = &self.output {
            sample.disk_bytes = Some(disk_bytes(output)?);
            fs_err::remove_dir_all(output)?;
        }
        Ok(sample)
    }
}

/// Makes a directory, or what is in it go.
pub(crate) fn empty(directory: &Path) -> Result<()> {
    if directory.exists() {
        fs_err::remove_dir_all(directory)?;
    }
    Ok(fs_err::create_dir_all(directory)?)
}

/// What the files below a directory take on the disk.
fn disk_bytes(directory: &Path) -> Result<u64> {
    use std::os::unix::fs::MetadataExt as _;

    let mut sum = 0;
    for entry in fs_err::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        sum += if metadata.is_dir() { disk_bytes(&entry.path())? } else { metadata.blocks() * 512 };
    }
    Ok(sum)
}
