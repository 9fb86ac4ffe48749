//! The programs of a case in turn, and how long all that takes.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::cases::{Case, Prepared};
use super::rig::Rig;
use super::sample::{Measured, Row};
use crate::command::{self, command};
use crate::term;

/// When something is measured, and of what.
pub(crate) struct Occasion {
    /// The day (UTC).
    date: String,
    /// The revision of the work tree, and whether there is more in it than that.
    revision: String,
}

/// How long a case took.
pub(crate) struct Took {
    case: Case,
    prepare: Duration,
    measure: Duration,
}

/// The runs that results are to have at the least.
const USUAL_RUNS: u32 = 7;

impl Occasion {
    /// Of now, before anything is built: what is changed later is in no result. `built` says whether
    /// our programs are built of that.
    pub(crate) fn now(built: bool) -> Result<Self> {
        let date = command::capture(command("date").args(["--utc", "+%F"]))?;
        let mut git = command("git");
        // A tree without its history, or a machine without git, is measured all the same.
        let revision = command::capture(git.args(["describe", "--always", "--dirty"]));
        let mut revision = revision.map_or_else(|_| "unknown".to_owned(), |text| trimmed(&text));
        if !built {
            revision.push_str(", programs built before");
        }
        Ok(Self { date: trimmed(&date), revision })
    }
}

fn trimmed(text: &str) -> String {
    text.trim().to_owned()
}

/// Prepares a case and runs its programs.
pub(crate) fn measure(
    case: Case,
    rig: &Rig,
    runs: u32,
    occasion: &Occasion,
) -> Result<(Measured, Took)> {
    let started = Instant::now();
    let prepared = case.prepare(rig)?;
    let (prepare, started) = (started.elapsed(), Instant::now());
    let measured = Measured {
        case: case.name(),
        title: prepared.title.clone(),
        date: occasion.date.clone(),
        revision: occasion.revision.clone(),
        rows: run_all(&prepared, runs),
        pairs: prepared.pairs.clone(),
    };
    Ok((measured, Took { case, prepare, measure: started.elapsed() }))
}

/// Runs the programs of a case in turn, so that what changes on the machine meets all of them. One
/// that fails is not run again, and the others are.
fn run_all(prepared: &Prepared, runs: u32) -> Vec<Row> {
    let mut rows: Vec<Row> =
        prepared.contenders.iter().map(|contender| Row::new(&contender.name)).collect();
    let counted = prepared.link.as_ref().map(|link| || link.take_received());
    for run in 1..=runs {
        for (contender, row) in prepared.contenders.iter().zip(&mut rows) {
            if row.failure.is_some() {
                continue;
            }
            let wire = counted.as_ref().map(|counted| counted as &dyn Fn() -> u64);
            match contender.run(wire) {
                Ok(mut sample) => {
                    sample.disk_bytes = sample.disk_bytes.filter(|_| prepared.shows_disk);
                    row.samples.push(sample);
                }
                Err(error) => {
                    term::note(&format!("{} failed in run {run}: {error:#}", contender.name));
                    row.failure = Some(format!("{error:#}"));
                }
            }
        }
    }
    rows
}

/// Says how long each case took, and how long the usual number of runs would take.
pub(crate) fn tell(took: &[Took], runs: u32) {
    term::heading("times");
    let names: Vec<String> = took.iter().map(|took| took.case.name()).collect();
    let times = took.iter().map(|took| took.prepare + took.measure);
    term::times(names.iter().map(String::as_str).zip(times.clone()));
    term::times([("all", times.sum())]);
    if runs != USUAL_RUNS {
        let usual = |took: &Took| took.prepare + took.measure * USUAL_RUNS / runs;
        term::note(&format!("with {USUAL_RUNS} runs, about:"));
        term::times(names.iter().map(String::as_str).zip(took.iter().map(usual)));
        term::times([("all", took.iter().map(usual).sum())]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::contender::Contender;

    #[test]
    fn a_program_that_fails_is_not_run_again_and_the_others_are() {
        let ran = std::rc::Rc::new(std::cell::Cell::new(0));
        let failing = {
            let ran = std::rc::Rc::clone(&ran);
            Contender::new("failing", || command("true")).prepared(move || {
                ran.set(ran.get() + 1);
                anyhow::bail!("on purpose")
            })
        };
        let missing = Contender::missing("missing", "it is not there".to_owned());
        let prepared = Prepared::new("title", vec![failing, missing]);
        let rows = run_all(&prepared, 3);
        assert_eq!(ran.get(), 1);
        assert_eq!(rows[0].failure.as_deref(), Some("on purpose"));
        assert_eq!(rows[1].failure.as_deref(), Some("it is not there"));
        assert!(rows.iter().all(|row| !row.has_run()));
    }
}
