//! The process that keeps the serving one alive, and is the guest's init where the image has none.

use std::ffi::c_int;
use std::path::Path;
use std::time::{Duration, Instant};

use super::console;
use super::error::BootError;
use crate::serve::{self, Guest};
use crate::sys::child::{self, Fork, Process};
use crate::sys::signal::{self, Set};
use crate::sys::{mount, reboot};

/// The keeper of the serving process.
///
/// What serves is a process of its own because the keeper, as the first process, reaps all orphans
/// of the guest: it would take the exit status of a command from whoever waits for it.
#[derive(Debug)]
pub(super) struct Keeper {
    guest: Guest,
    server: Option<Process>,
    /// When the serving process was last started.
    started: Instant,
    signals: Set,
}

/// By these, init programs are asked to end the machine.
const END: &[c_int] = &[signal::INT, signal::USR1, signal::USR2, signal::TERM, signal::POWER];

/// What cannot serve does not take the machine's whole time with trying.
const RESTART_INTERVAL: Duration = Duration::from_secs(1);

/// How long processes may take to end when they are asked to, and when they are made to.
const ASKED: Duration = Duration::from_secs(2);
const MADE: Duration = Duration::from_secs(1);

impl Keeper {
    /// Starts what serves.
    pub(super) fn start(guest: Guest) -> Result<Self, BootError> {
        // Beside an init, the keeper is asked to end like any other process, and does.
        let ends = if guest.root_has_init { &[] } else { END };
        let signals = Set::of(&[&[signal::CHILD], ends].concat());
        signals.block();
        let mut keeper = Self { guest, server: None, started: Instant::now(), signals };
        keeper.serve()?;
        Ok(keeper)
    }

    fn serve(&mut self) -> Result<(), BootError> {
        self.started = Instant::now();
        match child::fork().map_err(BootError::Fork)? {
            Fork::Child => {
                Set::of(&[]).block_only();
                child::leave_session();
                serve::run(self.guest)
            }
            Fork::Parent(server) => self.server = Some(server),
        }
        Ok(())
    }

    /// Starts it again whenever it has ended, and reaps every other child.
    pub(super) fn keep(mut self) -> ! {
        loop {
            if let Some(signal) = self.signals.wait(RESTART_INTERVAL)
                && END.contains(&signal)
            {
                end();
            }
            while let Ok(Some(process)) = child::reap() {
                if self.server == Some(process) {
                    console::note("what serves the host has ended; it is started again");
                    self.server = None;
                }
            }
            if self.server.is_none()
                && self.started.elapsed() >= RESTART_INTERVAL
                && let Err(error) = self.serve()
            {
                console::note(error);
            }
        }
    }
}

/// Ends all processes, then the machine.
fn end() -> ! {
    for (signal, deadline) in [(signal::TERM, ASKED), (signal::KILL, MADE)] {
        child::signal_all(signal);
        wait_for_all(deadline);
    }
    reboot::sync();
    // So that the file system needs no repair; it fails where something still writes.
    let _ = mount::make_read_only(Path::new("/"));
    console::fatal(reboot::reset())
}

/// Waits until no process is left but this one.
fn wait_for_all(deadline: Duration) {
    let signals = Set::of(&[signal::CHILD]);
    let started = Instant::now();
    // Where there is none to reap, there are none.
    while let Ok(reaped) = child::reap()
        && started.elapsed() < deadline
    {
        if reaped.is_none() {
            signals.wait(deadline.saturating_sub(started.elapsed()));
        }
    }
}
