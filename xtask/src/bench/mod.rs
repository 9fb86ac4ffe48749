//! `cargo xtask bench`: how long fetching and finding images takes, what it costs, and how that
//! compares with other programs on the same files, measured in turn in the same run.
//!
//! The cases are in [`cases`], the programs in [`ours`] and [`peers`], a run in [`measure`], what
//! was to be reached in [`aims`]; the results of the last run of each case are kept as JSON under
//! `target/bench`.

mod aims;
mod cases;
mod chart;
mod contender;
mod disks;
mod environment;
mod files;
mod growth;
mod link;
mod loop_mount;
pub(crate) mod measure;
mod ours;
mod peers;
mod python;
mod report;
mod rig;
mod sample;
mod turns;

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum as _;

use self::cases::Case;
use self::report::Part;
use self::rig::Rig;
use self::sample::Measured;
use self::turns::Occasion;
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

/// Measures the cases, and shows the results. What fails is told at the end, and is the loss of
/// nothing else.
pub(crate) fn run(args: &Args) -> Result<()> {
    fs_err::create_dir_all(paths::bench())?;
    setup::run(Scope::Bench)?;
    let occasion = Occasion::now(!args.no_build)?;
    let rig = Rig::set_up(!args.no_build)?;
    let cases =
        if args.cases.is_empty() { Case::value_variants().to_vec() } else { args.cases.clone() };
    let runs = if args.quick { 1 } else { args.runs };
    let (mut took, mut failures) = (Vec::new(), Vec::new());
    for case in cases {
        term::heading(&case.name());
        let (measured, time) = match turns::measure(case, &rig, runs, &occasion) {
            Ok(done) => done,
            Err(error) => {
                term::error(&error);
                failures.push(case.name());
                continue;
            }
        };
        took.push(time);
        term::plain(&report::markdown(std::slice::from_ref(&measured)));
        let failed = measured.rows.iter().filter(|row| row.failure.is_some());
        failures.extend(failed.map(|row| format!("{}: {}", measured.case, row.name)));
        // Without ours, what is kept of an earlier run tells more.
        let ours_failed = measured.rows.first().is_none_or(|row| row.failure.is_some());
        if !args.quick && !ours_failed {
            fs_err::write(result_path(case), serde_json::to_string_pretty(&measured)?)?;
        }
    }
    turns::tell(&took, runs);
    // What scratch files hold, no later run can use.
    fs_err::remove_dir_all(&rig.scratch)?;
    publish(args)?;
    ensure!(failures.is_empty(), "some of it failed: {}", failures.join("; "));
    Ok(())
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
    let (aims, table) = (aims::markdown(&all), report::markdown(&all));
    fs_err::write(paths::bench().join("results.md"), format!("{aims}\n{table}"))?;
    fs_err::write(paths::bench().join("chart.svg"), chart::svg(&all))?;
    fs_err::write(paths::bench().join("growth.svg"), growth::svg(&all))?;
    if args.update_docs {
        let docs = paths::root().join("docs");
        let document = docs.join("performance.md");
        report::update(&document, Part::Aims, &aims)?;
        report::update(&document, Part::Results, &table)?;
        fs_err::write(docs.join("performance.svg"), chart::svg(&all))?;
        fs_err::write(docs.join("growth.svg"), growth::svg(&all))?;
    }
    Ok(())
}
