//! What developers run: `cargo xtask setup`, `images`, `quickstart`, `test` and `bench`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;
#[cfg(test)]
mod boot;
mod command;
mod firecracker;
mod images;
mod paths;
mod python;
mod quickstart;
mod rust_target;
mod serve;
mod setup;
mod term;
mod test;
mod tools;
mod wheel;

/// What developers run.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Install the Debian packages and cargo tools that the other tasks need.
    Setup,
    /// Make bootable images from Debian packages under target/images.
    Images(images::Args),
    /// Serve, fetch, repair and boot a real image with the real command line.
    Quickstart,
    /// Run everything that must pass before a change lands.
    Test(test::Args),
    /// Measure fetching and finding images beside other programs.
    Bench(bench::Args),
    /// Run one program and say what it cost; the benchmark's own child.
    #[command(hide = true)]
    Measure(bench::measure::Args),
}

fn main() -> ExitCode {
    let done = match Args::parse().task {
        Task::Setup => setup::run(setup::Scope::Tests),
        Task::Images(args) => images::run(&args),
        Task::Quickstart => quickstart::run(),
        Task::Test(args) => test::run(&args),
        Task::Bench(args) => bench::run(&args),
        Task::Measure(args) => bench::measure::child(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            term::error(&error);
            ExitCode::FAILURE
        }
    }
}
