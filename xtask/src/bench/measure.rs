//! One run of one program, with its time, its CPU seconds and its peak of memory.
//!
//! Each run is the child of a small process of its own, this program again with the words
//! `measure --`: what the kernel adds up for that process's children is the run and nothing else.

use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use serde::{Deserialize, Serialize};

use super::sample::Sample;
use crate::command;

/// No run of any program takes that long, unless it hangs.
const LIMIT: Duration = Duration::from_mins(2);

/// Words before a command that is ended, with what it has started, after a time that follows, and
/// when this process ends. What they cost is not measured: the small process is behind them.
const LIMITED: [&str; 7] = ["setpriv", "--pdeathsig", "TERM", "--", "timeout", "--kill-after", "5"];

/// What `timeout` exits with when it had to end what it ran.
const TIMED_OUT: i32 = 124;

/// The program to run and its arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

/// What the small process says of its child.
#[derive(Serialize, Deserialize)]
struct Report {
    wall_seconds: f64,
    cpu_seconds: f64,
    peak_kib: u64,
    success: bool,
    /// What it printed.
    output: String,
}

/// What a program says that repeats the same call in one process and times it by itself.
#[derive(Deserialize)]
struct Repeated {
    calls: u32,
    median_seconds: f64,
    /// Of one call; without it, the start of the process is shared out among all.
    cpu_seconds: Option<f64>,
}

/// Runs a command once.
pub(crate) fn run(command: &Command) -> Result<Sample> {
    report(command).map(|report| report.sample())
}

/// Runs a command that makes the same call many times and prints how long one took.
pub(crate) fn run_in_process(command: &Command) -> Result<Sample> {
    let report = report(command)?;
    let said: Repeated = serde_json::from_str(&report.output).with_context(|| {
        format!("`{}` does not say how long it took", command::describe(command))
    })?;
    let shared_out = report.cpu_seconds / f64::from(said.calls.max(1));
    let cpu_seconds = said.cpu_seconds.unwrap_or(shared_out);
    Ok(Sample { wall_seconds: said.median_seconds, cpu_seconds, ..report.sample() })
}

fn report(command: &Command) -> Result<Report> {
    let mut measured = command::command(LIMITED[0]);
    measured.args(&LIMITED[1..]).arg(LIMIT.as_secs().to_string()).arg(std::env::current_exe()?);
    measured.arg("measure").arg("--").arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => measured.env(name, value),
            None => measured.env_remove(name),
        };
    }
    if let Some(directory) = command.get_current_dir() {
        measured.current_dir(directory);
    }
    let output = measured.stdin(Stdio::null()).output()?;
    let report: Result<Report, _> = serde_json::from_slice(&output.stdout);
    match report {
        Ok(report) if report.success => Ok(report),
        _ if output.status.code() == Some(TIMED_OUT) => {
            bail!("`{}` was ended after {} s", command::describe(command), LIMIT.as_secs())
        }
        _ => {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("`{}` failed: {}", command::describe(command), said.trim())
        }
    }
}

impl Report {
    fn sample(&self) -> Sample {
        Sample {
            wall_seconds: self.wall_seconds,
            cpu_seconds: self.cpu_seconds,
            peak_kib: self.peak_kib,
            disk_bytes: None,
            wire_bytes: None,
        }
    }
}

/// What the small process does.
pub(crate) fn child(args: &Args) -> Result<()> {
    let [program, arguments @ ..] = args.command.as_slice() else { bail!("no program") };
    let mut command = Command::new(OsStr::new(program));
    command.args(arguments).stdout(Stdio::piped());
    let started = Instant::now();
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {}", program.display()))?;
    let wall = started.elapsed();
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let report = Report {
        wall_seconds: wall.as_secs_f64(),
        cpu_seconds: (seconds(usage.user_time()) + seconds(usage.system_time())).as_secs_f64(),
        peak_kib: u64::try_from(usage.max_rss()).unwrap_or(0),
        success: output.status.success(),
        output: String::from_utf8_lossy(&output.stdout).into_owned(),
    };
    Ok(writeln!(std::io::stdout(), "{}", serde_json::to_string(&report)?)?)
}

fn seconds(time: TimeVal) -> Duration {
    let whole = u64::try_from(time.tv_sec()).unwrap_or(0);
    Duration::from_secs(whole) + Duration::from_micros(u64::try_from(time.tv_usec()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_says_of_its_calls_may_leave_out_their_cpu_seconds() {
        let read = |text| serde_json::from_str::<Repeated>(text).unwrap().cpu_seconds;
        assert_eq!(read(r#"{"calls": 3, "median_seconds": 0.5}"#), None);
        let whole = read(r#"{"calls": 3, "median_seconds": 0.5, "cpu_seconds": 0.25}"#);
        assert_eq!(whole, Some(0.25));
    }
}
