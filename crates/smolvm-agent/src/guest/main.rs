//! The agent: boots the guest as its first process, then runs commands for the host.
//!
//! The kernel starts it from the initial RAM disk that the host writes. [`boot`] is what happens
//! until the root file system stands and the image's init, if it has one, runs; [`serve`] is what
//! happens from then on; [`sys`] holds the system calls that `std` lacks.
#![allow(
    clippy::disallowed_methods,
    reason = "the program has no dependency that could replace them"
)]

use std::process::ExitCode;

mod boot;
mod serve;
mod sys;

fn main() -> ExitCode {
    if std::process::id() == 1 {
        boot::run();
    }
    boot::console::note("this is the first process of a SmolVM guest; there is nothing else to do");
    ExitCode::from(2)
}
