//! Ctrl-C and SIGTERM while bytes arrive, and while another process is waited for.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Child;

use rustix::process::{Pid, Signal, kill_process};
use smolvm_testkit::{Fault, Gate, Route};

use crate::site::{Site, rootfs};

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// A site whose root file system stops in its middle until the gate is opened, the first time. It
/// is slow before that, so that what the server has sent has arrived.
fn held() -> (Site, Gate) {
    let (site, gate) = (Site::with_dev(), Gate::new());
    let route = Route::new(rootfs())
        .etag("\"r\"")
        .fault_on(0, Fault::Throttle { bytes_per_second: 8 << 20 })
        .fault_on(0, Fault::HoldAt(2 << 20, gate.clone()));
    site.serve("/rootfs", route);
    (site, gate)
}

#[test]
fn an_interrupted_pull_ends_with_130_and_the_next_goes_on_from_there() {
    for number in [Signal::INT, Signal::TERM] {
        let (site, gate) = held();
        let pull = site.start("image pull dev");
        gate.wait_for_arrivals(1);
        signal(&pull, number);
        let finished = site.wait(pull);
        assert_eq!(finished.code, Some(130), "{finished}");
        assert!(finished.stderr.contains("error: cancelled"), "{finished}");
        assert!(!site.cache("dev/rootfs.ext4").exists());

        assert_eq!(site.run("image pull dev").code, Some(0));
        assert_eq!(fs_err::read(site.cache("dev/rootfs.ext4")).unwrap(), rootfs());
        assert!(site.server.requests_for("/rootfs")[1].header("range").is_some());
    }
}

#[test]
fn an_interrupted_pull_says_so_in_json() {
    let (site, gate) = held();
    let pull = site.start("image pull dev hello --json");
    gate.wait_for_arrivals(1);
    signal(&pull, Signal::INT);
    let finished = site.wait(pull);
    assert_eq!(finished.code, Some(130), "{finished}");
    assert!(finished.stdout.contains("\"kind\":\"interrupted\""), "{finished}");
    assert!(!finished.stdout.contains("hello"), "what comes after is not begun: {finished}");
}

/// Behaviour 30: the waiting process says what it waits for, Ctrl-C ends it alone, and the asset
/// is transferred once.
#[test]
fn a_waiting_pull_can_be_interrupted_alone() {
    let (site, gate) = held();
    let first = site.start("image pull dev --quiet");
    gate.wait_for_arrivals(1);

    let mut second = site.start("image pull dev");
    let mut stderr = BufReader::new(second.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains("waiting for") {
        assert_ne!(stderr.read_line(&mut said).unwrap(), 0, "it ended: {said}");
    }
    signal(&second, Signal::INT);
    assert_eq!(second.wait().unwrap().code(), Some(130));
    stderr.read_to_string(&mut said).unwrap();
    assert!(said.contains("error: cancelled"), "{said}");

    gate.open();
    let finished = site.wait(first);
    assert_eq!(finished.code, Some(0), "{finished}");
    assert_eq!(site.server.hits("/rootfs"), 1);
}
