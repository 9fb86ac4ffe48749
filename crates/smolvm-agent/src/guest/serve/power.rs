//! The end of the guest.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use smolvm_protocol::{Exec, PowerOff, Program};

use super::Guest;
use super::command;
use super::init::Init;
use crate::boot::console;
use crate::sys::launch::Restored;
use crate::sys::process;
use crate::sys::signal;
use crate::sys::{child, mount, reboot};

/// How long the guest's init may take. A host that waits for less ends the machine itself.
const IN_ORDER: Duration = Duration::from_secs(10);

/// How long processes may take to end, where there is no init that asks them to.
const ASKED: Duration = Duration::from_secs(2);

/// Begins to end the guest. Returns when to [force](self::force) it, should it still run.
pub(super) fn begin(how: PowerOff, guest: Guest, restored: Restored) -> Instant {
    match how {
        PowerOff::Now => force(),
        PowerOff::Orderly if !guest.root_has_init => process::signal_first(SIGTERM),
        PowerOff::Orderly => {
            let init = Init::of_guest();
            let is_asked = match init {
                Init::Program => run_reboot(restored),
                _ => init.ask_for_end(),
            };
            if !is_asked {
                end_processes();
                force();
            }
        }
    }
    Instant::now() + IN_ORDER
}

const SIGTERM: u8 = 15;

/// Ends the guest at once. Nothing is asked any more, but the disks are left in order.
pub(super) fn force() -> ! {
    child::signal_all(signal::KILL);
    reboot::sync();
    // So that the file system needs no repair; it fails where something still writes.
    let _ = mount::make_read_only(Path::new("/"));
    console::fatal(reboot::reset())
}

/// Whether the program that asks this init for its end could be started.
fn run_reboot(restored: Restored) -> bool {
    let exec = Exec::new(Program::Arguments(vec![b"reboot".to_vec()]));
    command::start_unattended(&exec, None, restored).is_ok()
}

/// Asks all processes to end, and waits for them.
fn end_processes() {
    const PAUSE: Duration = Duration::from_millis(10);
    let mut asked = others();
    child::signal_all(signal::TERM);
    let started = Instant::now();
    while started.elapsed() < ASKED && !asked.is_empty() {
        thread::sleep(PAUSE);
        // What has been started since, by a script that goes on, was not asked.
        let running = others();
        asked.retain(|process| running.contains(process));
    }
}

/// The processes besides the first and this one, other than the kernel's own.
fn others() -> HashSet<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let processes = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_other = |&process: &u32| {
        // Those of the kernel have no command line, and those that have ended neither.
        let command = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
        process != 1 && process != std::process::id() && !command.is_empty()
    };
    processes.filter(is_other).collect()
}
