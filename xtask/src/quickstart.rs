//! `cargo xtask quickstart`: what SmolVM does, shown on a real image: it is
//! served, listed, fetched, found again, damaged, repaired and booted.

use std::fs::Permissions;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

use crate::command::{self, command};
use crate::images::{self, Image, Kind};
use crate::serve::Server;
use crate::setup::Scope;
use crate::{paths, setup, term};

/// What the guest says when all went well.
const GREETING: &str = "Hello from SmolVM!";

/// Runs it all; fails at the first thing that is not as promised.
pub(crate) fn run() -> Result<()> {
    let mut tour = Tour::default();
    tour.step("set up", || setup::run(Scope::Quickstart))?;
    let image = tour.step("make an image", || images::ensure(Kind::Small))?;
    let program = tour.step("build smolvm", build)?;

    let scratch = paths::quickstart();
    if scratch.exists() {
        fs_err::remove_dir_all(&scratch)?;
    }
    fs_err::create_dir_all(&scratch)?;
    let (server, smolvm) = tour.step("serve the image", || serve(&image, program, &scratch))?;

    tour.step("list", || command::run(&mut smolvm.image(&["list"])))?;
    tour.step("pull", || pull(&smolvm, &image, &server))?;
    tour.step("pull again", || pull_again(&smolvm, &image, &server))?;
    tour.step("repair", || repair(&smolvm, &image, &server))?;
    tour.step("doctor", || command::run(&mut smolvm.command(&["doctor"])))?;
    let line = tour.step("boot", || boot(&smolvm, &image))?;
    drop(server);

    term::heading("what the guest said");
    term::greeting(&line);
    tour.show_times();
    Ok(())
}

/// The steps that were taken and their times.
#[derive(Default)]
struct Tour {
    times: Vec<(&'static str, Duration)>,
}

impl Tour {
    fn step<T>(&mut self, name: &'static str, act: impl FnOnce() -> Result<T>) -> Result<T> {
        term::heading(name);
        let started = Instant::now();
        let result = act().with_context(|| format!("quickstart stopped at `{name}`"))?;
        self.times.push((name, started.elapsed()));
        Ok(result)
    }

    fn show_times(&self) {
        term::times(self.times.iter().copied());
        let total = self.times.iter().map(|(_, took)| *took).sum();
        term::times([("all", total)]);
    }
}

/// The real program, with a cache of its own.
struct Smolvm {
    program: PathBuf,
    home: PathBuf,
    cache: PathBuf,
    registry: PathBuf,
}

impl Smolvm {
    /// `smolvm image WORDS…`.
    fn image(&self, words: &[&str]) -> Command {
        self.command(&[&["image"], words].concat())
    }

    /// `smolvm WORDS…`.
    fn command(&self, words: &[&str]) -> Command {
        let mut command = command(&self.program);
        command.args(words).arg("--vms-dir").arg(self.home.join("vms"));
        command.arg("--cache-dir").arg(&self.cache).arg("--registry").arg(&self.registry);
        // What the person at this terminal has set for themselves is not
        // what is shown here, nor are the images that they have.
        command::without_settings(&mut command);
        command.env("HOME", &self.home);
        command
    }

    /// Where the cached files are, and how to boot them.
    fn cached(&self, image: &Image) -> Result<Cached> {
        let printed = command::capture(&mut self.image(&["path", image.name, "--json"]))?;
        serde_json::from_str(&printed).context("`smolvm image path --json` told no paths")
    }
}

/// What `smolvm image path --json` prints, as far as it is used here.
#[derive(Deserialize)]
struct Cached {
    paths: CachedPaths,
}

#[derive(Deserialize)]
struct CachedPaths {
    kernel: PathBuf,
    rootfs: PathBuf,
    initrd: PathBuf,
}

fn build() -> Result<PathBuf> {
    command::run(command("cargo").args(["build", "--release", "--package", "smolvm-cli"]))?;
    let metadata = command::capture(command("cargo").args([
        "metadata",
        "--format-version=1",
        "--no-deps",
        "--offline",
    ]))?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata)?;
    let target =
        metadata["target_directory"].as_str().context("cargo tells no target directory")?;
    Ok(Path::new(target).join("release/smolvm"))
}

fn serve(image: &Image, program: PathBuf, scratch: &Path) -> Result<(Server, Smolvm)> {
    let server = Server::start(&paths::images(), scratch)?;
    let registry = scratch.join("registry.toml");
    images::write_registry(&registry, std::slice::from_ref(image), &server.address())?;
    term::note(&format!("nginx serves target/images at {}", server.address()));
    Ok((
        server,
        Smolvm { program, home: scratch.to_owned(), cache: scratch.join("cache"), registry },
    ))
}

fn pull(smolvm: &Smolvm, image: &Image, server: &Server) -> Result<()> {
    command::run(&mut smolvm.image(&["pull", image.name]))?;
    let paths = smolvm.cached(image)?.paths;
    for (file, path) in [
        (images::KERNEL, &paths.kernel),
        (images::INITRD, &paths.initrd),
        (images::ROOTFS, &paths.rootfs),
    ] {
        let digest = images::digest_of(path)?;
        ensure!(digest == image.manifest.sha256(file)?, "{} has wrong bytes", path.display());
        ensure!(
            requests_for(server, 0, file)? == 1,
            "{file} was not fetched once; nginx answered: {:#?}",
            server.requests()?
        );
    }
    Ok(())
}

fn pull_again(smolvm: &Smolvm, image: &Image, server: &Server) -> Result<()> {
    let before = server.requests()?.len();
    command::run(&mut smolvm.image(&["pull", image.name]))?;
    let asked = server.requests()?.split_off(before);
    ensure!(asked.is_empty(), "a cached image was asked for again: {asked:#?}");
    term::note("nginx was asked for nothing");
    Ok(())
}

fn repair(smolvm: &Smolvm, image: &Image, server: &Server) -> Result<()> {
    let rootfs = smolvm.cached(image)?.paths.rootfs;
    let at = damage(&rootfs)?;
    term::note(&format!("byte {at} of the cached root file system is now another"));

    let before = server.requests()?.len();
    command::run(&mut smolvm.image(&["pull", image.name]))?;
    let asked = server.requests()?.split_off(before);
    for request in &asked {
        term::note(&format!("nginx: {request}"));
    }
    ensure!(
        asked.len() == 1 && requests_for(server, before, images::ROOTFS)? == 1,
        "not the damaged file alone was fetched: {asked:#?}"
    );
    ensure!(
        images::digest_of(&rootfs)? == image.manifest.sha256(images::ROOTFS)?,
        "the damage is still there"
    );
    Ok(())
}

/// Changes one byte in the middle of a file, and neither its size, its mode nor
/// its modification time. Returns where.
fn damage(path: &Path) -> Result<u64> {
    let metadata = fs_err::metadata(path)?;
    let at = metadata.len() / 2;
    fs_err::set_permissions(path, Permissions::from_mode(0o600))?;
    let mut file = fs_err::OpenOptions::new().read(true).write(true).open(path)?;
    let mut byte = [0];
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(&mut byte)?;
    file.seek(SeekFrom::Start(at))?;
    file.write_all(&[byte[0] ^ 1])?;
    file.file().set_modified(metadata.modified()?)?;
    fs_err::set_permissions(path, metadata.permissions())?;
    Ok(at)
}

/// How often `file` was asked for, after the first `skipped` requests.
fn requests_for(server: &Server, skipped: usize, file: &str) -> Result<usize> {
    let path = format!("/{file} ");
    Ok(server.requests()?.iter().skip(skipped).filter(|line| line.contains(&path)).count())
}

/// Runs a command in a VM that boots what was cached, and returns what it said.
fn boot(smolvm: &Smolvm, image: &Image) -> Result<String> {
    let greeting = format!("echo \"{GREETING} $(uname -sr), root on $(stat -f -c %T /)\"");
    let mut run = smolvm.command(&["run", image.name]);
    run.args(["--", "sh", "-c", &greeting]);
    let said = command::capture(&mut run)?;
    let line = said.trim_end().to_owned();
    ensure!(line.starts_with(GREETING), "the guest said {line:?}");
    let digest = images::digest_of(&smolvm.cached(image)?.paths.rootfs)?;
    if digest != image.manifest.sha256(images::ROOTFS)? {
        bail!("the guest wrote to the cached file");
    }
    Ok(line)
}
