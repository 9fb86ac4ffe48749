//! `cargo xtask bench`: how long fetching and finding images takes, what it costs, and how that
//! compares with other programs on the same files, measured in turn in the same run.
//!
//! The cases are in [`cases`], the programs in [`ours`] and [`peers`], a run in [`measure`]; the
//! results of the last run of each case are kept as JSON under `target/bench`.

mod cases;
mod chart;
mod contender;
mod files;
mod growth;
mod link;
pub(crate) mod measure;
mod ours;
mod peers;
mod python;
mod report;
mod rig;
mod sample;

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::ValueEnum as _;

use self::cases::{Case, Prepared};
use self::rig::Rig;
use self::sample::{Measured, Row};
use crate::command::{self, command};
use crate::setup::Scope;
use crate::{paths, setup, term};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Measure this case; may be given several times. All of them if none is given.
    #[arg(long = "case", value_name = "CASE")]
    cases: Vec<Case>,
    /// Run each program this many times.
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Run each program once, to see that it works.
    #[arg(long, conflicts_with = "runs")]
    quick: bool,
    /// Measure what was built last, without building it anew.
    #[arg(long)]
    no_build: bool,
    /// Put the results of the last run of each case into docs/performance.md.
    #[arg(long)]
    update_docs: bool,
}

/// Measures the cases, and shows the results.
pub(crate) fn run(args: &Args) -> Result<()> {
    fs_err::create_dir_all(paths::bench())?;
    setup::run(Scope::Bench)?;
    let rig = Rig::set_up(!args.no_build)?;
    let cases =
        if args.cases.is_empty() { Case::value_variants().to_vec() } else { args.cases.clone() };
    for case in cases {
        term::heading(&case.name());
        let prepared = case.prepare(&rig)?;
        let runs = if args.quick { 1 } else { args.runs };
        let measured = measure_case(case, &prepared, runs)?;
        if !args.quick {
            fs_err::write(result_path(case), serde_json::to_string_pretty(&measured)?)?;
        }
        term::plain(&report::markdown(std::slice::from_ref(&measured)));
    }
    // What scratch files hold, no later run can use.
    fs_err::remove_dir_all(&rig.scratch)?;
    publish(args)
}

/// Runs the programs of a case in turn, so that what changes on the machine meets all of them.
fn measure_case(case: Case, prepared: &Prepared, runs: u32) -> Result<Measured> {
    let row = |name: &String| Row { name: name.clone(), samples: Vec::new() };
    let mut rows: Vec<Row> =
        prepared.contenders.iter().map(|contender| row(&contender.name)).collect();
    let counted = prepared.link.as_ref().map(|link| || link.take_received());
    for run in 1..=runs {
        for (contender, row) in prepared.contenders.iter().zip(&mut rows) {
            let wire = counted.as_ref().map(|counted| counted as &dyn Fn() -> u64);
            let mut sample = contender
                .run(wire)
                .with_context(|| format!("{} failed in run {run}", contender.name))?;
            sample.disk_bytes = sample.disk_bytes.filter(|_| prepared.shows_disk);
            row.samples.push(sample);
        }
    }
    let mut git = command("git");
    let revision = command::capture(git.args(["describe", "--always", "--dirty"]))?;
    let date = command::capture(command("date").args(["--utc", "+%F"]))?;
    Ok(Measured {
        case: case.name(),
        title: prepared.title.clone(),
        date: date.trim().to_owned(),
        revision: revision.trim().to_owned(),
        rows,
    })
}

/// Where the results of the last run of a case are kept.
fn result_path(case: Case) -> PathBuf {
    paths::bench().join(format!("{}.json", case.name()))
}

/// Writes the table and the chart of all cases that were ever measured.
fn publish(args: &Args) -> Result<()> {
    let mut all = Vec::new();
    for case in Case::value_variants() {
        let path = result_path(*case);
        if path.exists() {
            let text = fs_err::read_to_string(&path)?;
            let measured: Measured =
                serde_json::from_str(&text).with_context(|| path.display().to_string())?;
            all.push(measured);
        }
    }
    let table = report::markdown(&all);
    fs_err::write(paths::bench().join("results.md"), &table)?;
    fs_err::write(paths::bench().join("chart.svg"), chart::svg(&all))?;
    fs_err::write(paths::bench().join("growth.svg"), growth::svg(&all))?;
    if args.update_docs {
        let docs = paths::root().join("docs");
        report::update(&docs.join("performance.md"), &table)?;
        fs_err::write(docs.join("performance.svg"), chart::svg(&all))?;
        fs_err::write(docs.join("growth.svg"), growth::svg(&all))?;
    }
    Ok(())
}
