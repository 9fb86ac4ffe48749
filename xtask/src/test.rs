//! `cargo xtask test`: everything that must pass before a change lands, one
//! step after the other, ending at the first that fails.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::ValueEnum;

use crate::command::{self, command};
use crate::images::Kind;
use crate::setup::Scope;
use crate::{firecracker, images, paths, python, quickstart, rust_target, setup, term};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Run only this step; may be given several times.
    #[arg(long, value_name = "STEP")]
    only: Vec<Step>,
    /// Also check the dependencies against the database of known
    /// vulnerabilities, which is fetched for that.
    #[arg(long)]
    advisories: bool,
}

/// The steps, in the order in which they run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Step {
    /// Install what is missing.
    Setup,
    /// Make the images that the tests and the quickstart use.
    Images,
    /// Formatting.
    Fmt,
    /// Lints, none allowed.
    Clippy,
    /// Licences and sources of the dependencies.
    Deny,
    /// The tests.
    Tests,
    /// The examples in the documentation.
    Doctests,
    /// The documentation itself, without a warning.
    Docs,
    /// The Python package: its wheel, its tests, its types.
    Python,
    /// What a newcomer runs first.
    Quickstart,
}

/// Runs the steps.
pub(crate) fn run(args: &Args) -> Result<()> {
    let chosen = |step: &Step| args.only.is_empty() || args.only.contains(step);
    let steps: Vec<Step> = Step::value_variants().iter().copied().filter(chosen).collect();

    let mut done: Vec<(String, Duration)> = Vec::new();
    let mut failure = None;
    for step in &steps {
        let name = step.name();
        term::heading(&name);
        let started = Instant::now();
        if let Err(error) = step.run(args) {
            failure = Some((name, error));
            break;
        }
        done.push((name, started.elapsed()));
    }

    term::heading("summary");
    term::times(done.iter().map(|(name, took)| (name.as_str(), *took)));
    let failed = usize::from(failure.is_some());
    for step in &steps[done.len() + failed..] {
        term::note(&format!("{}: not run", step.name()));
    }
    if let Some((name, _)) = &failure {
        term::note(&format!("{name}: FAILED; `cargo xtask test --only {name}` runs it alone"));
    }
    term::plain(&format!("{} passed, {failed} failed", done.len()));
    failure.map_or(Ok(()), |(_, error)| Err(error))
}

impl Step {
    fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    fn run(self, args: &Args) -> Result<()> {
        match self {
            Self::Setup => setup::run(Scope::Tests),
            Self::Images => make_images(),
            Self::Fmt => cargo("fmt --all --check"),
            Self::Clippy => cargo("clippy --workspace --all-targets --all-features -- -D warnings"),
            Self::Deny => deny(args.advisories),
            Self::Tests => tests(),
            Self::Doctests => cargo("test --workspace --all-features --doc"),
            Self::Docs => docs(),
            Self::Python => python::run(),
            Self::Quickstart => quickstart::run(),
        }
    }
}

fn make_images() -> Result<()> {
    for kind in Kind::value_variants() {
        if kind.needs_root() && !setup::is_root() && !must_have_all() {
            term::note(&format!("{} is left out: only root can make it", kind.name()));
        } else {
            images::ensure(*kind)?;
        }
    }
    Ok(())
}

/// Whether what cannot be done here is a failure and not a skip.
fn must_have_all() -> bool {
    std::env::var_os("SMOLVM_TEST_REQUIRE_ALL").is_some_and(|value| value == "1")
}

/// The vulnerabilities are asked for by hand: their database changes from day
/// to day and comes from a host that not every machine reaches, and a test
/// that passes must not fail tomorrow on the same tree.
fn deny(advisories: bool) -> Result<()> {
    cargo("deny check bans licenses sources")?;
    if advisories {
        cargo("deny check advisories")?;
    }
    Ok(())
}

fn tests() -> Result<()> {
    let images = paths::images();
    if !images.is_dir() {
        bail!("the tests use real images; `cargo xtask images` makes them");
    }
    let skips = tempfile::NamedTempFile::new()?;
    let mut tests = command("cargo");
    tests.args(["nextest", "run", "--workspace", "--all-features", "--no-fail-fast"]);
    tests.env("SMOLVM_TEST_IMAGES", images).env("SMOLVM_TEST_SKIPS", skips.path());
    if !firecracker::is_missing() {
        tests.env("SMOLVM_TEST_FIRECRACKER", firecracker::directory());
    }
    if rust_target::is_missing() {
        tests.env("SMOLVM_TEST_NO_ARM64", rust_target::REASON);
    }
    command::without_settings(&mut tests);
    let result = command::run(&mut tests);
    // nextest shows nothing of a test that passes.
    term::plain(&fs_err::read_to_string(skips.path())?);
    result
}

fn docs() -> Result<()> {
    let mut docs = command("cargo");
    docs.args(["doc", "--workspace", "--all-features", "--no-deps"]);
    command::run(docs.env("RUSTDOCFLAGS", "-D warnings"))
}

fn cargo(arguments: &str) -> Result<()> {
    command::run(command("cargo").args(arguments.split(' ')))
}
