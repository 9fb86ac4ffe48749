//! The directories of a VM: whose they are, and that nobody gets another's.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rustix::process::Signal;
use smolvm_supervisor::control::Report;

use crate::rig::{Place, eventually, shell};

fn mode(path: &Path) -> u32 {
    fs_err::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn of_many_creators_of_one_id_one_wins() {
    let place = Place::new();
    for _ in 0..10 {
        let mut rivals: Vec<_> = (0..8).map(|_| place.start("vm", "owned", Vec::new())).collect();
        let first: Vec<_> = rivals.iter_mut().map(|rival| rival.next().unwrap()).collect();
        let winners = first.iter().filter(|&report| *report == Report::Ready).count();
        let losers = first.iter().filter(|&report| *report == Report::Exists).count();
        assert_eq!((winners, losers), (1, 7), "{first:?}");
        for (rival, first) in rivals.iter_mut().zip(first) {
            match first {
                Report::Ready => rival.delete(),
                _ => assert!(rival.wait().success()),
            }
        }
        assert!(place.is_empty());
    }
}

#[test]
fn a_vm_that_exists_is_left_alone() {
    let place = Place::new();
    let mut first = place.make("vm", "detached", Vec::new());
    fs_err::write(first.state.join("config.json"), "{}").unwrap();
    for mode in ["owned", "detached", "adopt"] {
        assert_eq!(place.start("vm", mode, Vec::new()).next(), Some(Report::Exists), "{mode}");
    }
    first.launch(vec![shell("")]);
    first.delete();
    assert_eq!(place.start("vm", "adopt", Vec::new()).next(), Some(Report::NotFound));
    assert!(place.is_empty());
}

#[test]
fn an_owned_vm_cannot_be_adopted() {
    let place = Place::new();
    let mut supervisor = place.make("vm", "owned", Vec::new());
    supervisor.signal(Signal::KILL);
    supervisor.wait();
    assert_eq!(place.start("vm", "adopt", Vec::new()).next(), Some(Report::NotFound));
}

#[test]
fn what_cannot_be_made_is_told_by_its_path() {
    let place = Place::new();
    fs_err::remove_dir(place.path().join("run")).unwrap();
    let mut supervisor = place.start("vm", "owned", Vec::new());
    let Some(Report::Failed(why)) = supervisor.next() else { panic!("it did not fail") };
    assert!(why.contains("/run/vm: No such file"), "{why}");
    assert!(!supervisor.state.exists(), "half a VM is left");
}

#[test]
fn another_user_sees_nothing() {
    let place = Place::new();
    let mut supervisor = place.make("vm", "owned", Vec::new());
    supervisor.launch(vec![shell("echo secret")]);
    eventually("there is a console", || !supervisor.console().is_empty());
    assert_eq!(mode(&supervisor.state), 0o700);
    assert_eq!(mode(&supervisor.runtime), 0o700);
    assert_eq!(mode(&supervisor.state.join("console.log")), 0o600);
    assert_eq!(mode(&supervisor.runtime.join("agent.sock")), 0o600);
    supervisor.delete();
}

#[test]
fn the_sockets_of_a_dead_supervisor_are_replaced_and_those_of_a_living_one_are_not() {
    let place = Place::new();
    let mut dead = place.make("vm", "owned", Vec::new());
    dead.launch(vec![shell("")]);
    dead.signal(Signal::KILL);
    dead.wait();
    // The owner's library removes the one, and nobody the other.
    fs_err::remove_dir_all(&dead.state).unwrap();
    let mut living = place.make("vm", "owned", Vec::new());
    assert!(!living.runtime.join("agent.sock").exists());
    living.launch(vec![shell("")]);

    fs_err::remove_dir_all(&living.state).unwrap();
    assert_eq!(place.start("vm", "owned", Vec::new()).next(), Some(Report::Exists));
    assert!(living.runtime.join("agent.sock").exists());
    living.delete();
    assert!(place.is_empty());
}
