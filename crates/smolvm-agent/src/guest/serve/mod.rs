//! Serving the host: sessions over the virtio-serial port and vsock, and all that is asked for in
//! them.
//!
//! One thread does everything, in a loop around `poll`: a [`server::Server`] has
//! [sessions](session::Session), a session has channels, and each kind of
//! [channel](channel::Channel) has a module.

use std::convert::Infallible;
use std::fs;
use std::io;

use crate::boot::console;
use crate::sys::launch::Restored;
use crate::sys::{open_files, signal_action};

mod backlog;
mod channel;
mod command;
mod connection;
mod copy;
mod failure;
mod init;
mod machine;
mod network;
mod opener;
mod outbox;
mod port;
mod power;
mod server;
mod session;
mod settle;
mod users;

#[cfg(test)]
mod tests;

use machine::Machine;
use server::Server;

/// What the agent found when it booted the guest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Guest {
    /// Whether the image's own init is the first process. Without one, the first process ends the
    /// guest in order when it receives `SIGTERM`.
    pub(crate) root_has_init: bool,
}

/// Serves the host, from inside the root file system of the image.
pub(crate) fn run(guest: Guest) -> ! {
    match serve(guest) {
        Err(error) => console::note(format_args!("cannot serve the host: {error}")),
    }
    std::process::exit(1)
}

fn serve(guest: Guest) -> io::Result<Infallible> {
    std::env::set_current_dir("/")?;
    signal_action::reset_ignored();
    let restored = Restored {
        open_files: open_files::raise().ok(),
        // Whatever eats the guest's memory, the host can still ask for its end.
        oom_score: fs::write("/proc/self/oom_score_adj", "-1000").is_ok(),
    };
    network::set_up_loopback();
    Server::new(guest, restored, Machine::Guest)?.run()
}
