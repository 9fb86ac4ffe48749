//! The process beside one virtual machine that ends it when its owner is gone.
//!
//! It makes the VM's directories, starts the VMM and the programs beside it, holds the only
//! connection to the agent in the guest and shares it among any number of clients, writes down
//! what the guest's console and the VMM say, and leaves nothing behind. As `network`, as `tap`
//! and as `bridge` it is one of those programs itself.

#![allow(clippy::disallowed_methods, reason = "a program of nothing but std has no fs_err")]

mod arguments;
mod bridge;
#[allow(dead_code, unreachable_pub, reason = "the library shows and uses all of it")]
mod control;
mod directories;
#[allow(dead_code, unreachable_pub, reason = "the library shows and uses all of it")]
mod egress;
mod hex;
#[allow(dead_code, unreachable_pub, reason = "the library shows and uses a part of it")]
mod jail;
mod log;
mod machine;
mod mux;
mod network;
mod owner;
mod poll;
#[allow(dead_code, unreachable_pub, reason = "the library shows and uses all of it")]
mod pool;
#[allow(dead_code, unreachable_pub, reason = "the library shows and uses all of it")]
mod setting;
mod signals;
#[allow(dead_code, unreachable_pub, reason = "the library shows and uses all of it")]
mod state;
mod supervisor;
mod sys;
mod tap;

use std::io;
use std::process::ExitCode;

use crate::arguments::Arguments;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> io::Result<()> {
    let mut arguments = std::env::args_os();
    match arguments.nth(1) {
        Some(role) if role == network::ROLE => return network::run(arguments),
        Some(role) if role == tap::ROLE => return tap::run(arguments),
        Some(role) if role == bridge::ROLE => return bridge::run(arguments),
        Some(role) if role == jail::ROLE => return jail::run(arguments),
        _ => {}
    }
    sys::set_name(b"smolvm-supervis\0");
    sys::leave_session();
    supervisor::run(Arguments::take(std::env::args_os())?)
}
