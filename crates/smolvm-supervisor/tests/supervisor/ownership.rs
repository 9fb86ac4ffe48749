//! Who owns a VM, and what becomes of it when the owner is gone.

use std::process::{Child, Command};

use rustix::process::Signal;
use smolvm_supervisor::control::{How, Order, Program, Report};
use smolvm_supervisor::state::{Process, Status};

use crate::rig::{Place, Supervisor, eventually, shell};

/// A process that does nothing and can be killed.
fn bystander() -> Child {
    Command::new("sleep").arg("1000").spawn().unwrap()
}

/// A program beside the VMM that is ready at once.
fn helper() -> Program {
    Program::helper(["sleep", "1000"], None)
}

/// Starts a VMM and a program beside it. Returns their processes.
fn launch_two(supervisor: &mut Supervisor) -> [Process; 2] {
    let vmm = supervisor.launch(vec![helper(), shell("")]);
    let helpers = supervisor.state().helpers;
    assert_eq!(helpers.len(), 1);
    [vmm, helpers[0]]
}

/// Makes a detached VM whole, as the library does.
fn write_record(supervisor: &Supervisor) {
    fs_err::write(supervisor.state.join("config.json"), "{}").unwrap();
}

fn assert_gone(place: &Place, supervisor: &mut Supervisor, processes: &[Process]) {
    supervisor.wait();
    for process in processes {
        assert!(!process.is_alive(), "{process:?} is left");
    }
    assert!(place.is_empty(), "directories are left");
}

/// Behaviour 48: a child of the owner that has inherited the control socket does not keep the VM.
#[test]
fn an_owner_that_is_killed_takes_its_vm_with_it_whoever_else_has_the_socket() {
    let place = Place::new();
    let mut owner = bystander();
    let mut supervisor = place.start_for("vm", "owned", owner.id(), Vec::new());
    assert_eq!(supervisor.next(), Some(Report::Ready));
    let processes = launch_two(&mut supervisor);
    fs_err::write(supervisor.state.join("disk.img"), "data").unwrap();

    owner.kill().unwrap();
    owner.wait().unwrap();
    assert_gone(&place, &mut supervisor, &processes);
}

/// Behaviour 48.
#[test]
fn an_owner_that_closes_its_socket_has_left() {
    let place = Place::new();
    let mut supervisor = place.make("vm", "owned", Vec::new());
    let processes = launch_two(&mut supervisor);
    supervisor.control = None;
    assert_gone(&place, &mut supervisor, &processes);
}

/// Behaviour 48: nobody hears that the VM is made.
#[test]
fn an_owner_that_is_gone_before_the_vm_is_made_gets_none() {
    let place = Place::new();
    for mode in ["owned", "detached"] {
        let mut supervisor = place.start("vm", mode, Vec::new());
        supervisor.control = None;
        assert_gone(&place, &mut supervisor, &[]);
    }
}

/// Behaviour 48.
#[test]
fn an_owner_may_leave_before_anything_runs_or_while_it_is_started() {
    let place = Place::new();
    let mut supervisor = place.make("vm", "owned", Vec::new());
    supervisor.control = None;
    assert_gone(&place, &mut supervisor, &[]);

    let mut supervisor = place.make("vm", "owned", Vec::new());
    let never = supervisor.runtime.join("never.sock");
    let helper = Program::helper(["sh", "-c", "echo $$ >&2; exec sleep 1000"], never);
    supervisor.tell(&Order::Launch(vec![helper, shell("")]));
    let mut helper = None;
    eventually("the helper runs", || {
        let log = fs_err::read_to_string(supervisor.state.join("vmm.log")).unwrap_or_default();
        helper = log.trim().parse().ok().and_then(Process::find);
        helper.is_some()
    });
    supervisor.control = None;
    assert_gone(&place, &mut supervisor, &[helper.unwrap()]);
}

#[test]
fn a_supervisor_that_is_told_to_end_removes_what_is_owned() {
    let place = Place::new();
    let mut supervisor = place.make("vm", "owned", Vec::new());
    let processes = launch_two(&mut supervisor);
    supervisor.signal(Signal::TERM);
    assert_gone(&place, &mut supervisor, &processes);
}

/// Behaviour 48: what a terminal sends to the owner is not for the VM.
#[test]
fn a_terminal_does_not_end_a_vm() {
    let place = Place::new();
    let mut supervisor = place.make("vm", "owned", Vec::new());
    let processes = launch_two(&mut supervisor);
    for signal in [Signal::INT, Signal::HUP] {
        supervisor.signal(signal);
    }
    supervisor.kill_vmm();
    assert!(!processes[0].is_alive());
    supervisor.delete();
    assert!(place.is_empty());
}

#[test]
fn a_supervisor_that_is_killed_takes_all_processes_with_it() {
    let place = Place::new();
    let mut supervisor = place.make("vm", "owned", Vec::new());
    let processes = launch_two(&mut supervisor);
    supervisor.signal(Signal::KILL);
    supervisor.wait();
    for process in processes {
        eventually("they have ended", || !process.is_alive());
    }
}

/// Behaviour 48: a VM that is started to stay is only ended by name.
#[test]
fn a_detached_vm_stays_until_it_is_ended() {
    let place = Place::new();
    let mut owner = bystander();
    let mut supervisor = place.start_for("vm", "detached", owner.id(), Vec::new());
    assert_eq!(supervisor.next(), Some(Report::Ready));
    write_record(&supervisor);
    let processes = launch_two(&mut supervisor);
    owner.kill().unwrap();
    owner.wait().unwrap();
    // The socket is closed when the supervisor has noticed.
    assert_eq!(supervisor.next(), None);
    assert!(processes.iter().all(Process::is_alive));
    assert!(supervisor.runtime.join("agent.sock").exists());

    supervisor.signal(Signal::TERM);
    assert!(supervisor.wait().success());
    assert!(!processes.iter().any(Process::is_alive));
    assert!(!supervisor.runtime.exists());
    assert!(matches!(supervisor.state().status, Status::Ended { how: How::Signal(9), .. }));
}

#[test]
fn a_detached_vm_that_ends_by_itself_has_no_supervisor_any_more() {
    let place = Place::new();
    let mut supervisor = place.make("vm", "detached", Vec::new());
    write_record(&supervisor);
    let gate = place.path().join("gate");
    let wait = format!("until [ -e {} ]; do sleep 0.01; done; exit 3", gate.display());
    supervisor.launch(vec![helper(), Program::vmm(["sh", "-c", &wait])]);
    supervisor.control = None;
    fs_err::write(gate, "").unwrap();
    assert!(supervisor.wait().success());
    assert!(matches!(supervisor.state().status, Status::Ended { how: How::Exit(3), .. }));
    assert!(!supervisor.runtime.exists());

    // It can be started again.
    let mut second = place.make("vm", "adopt", Vec::new());
    assert!(matches!(second.state().status, Status::Ended { how: How::Exit(3), .. }));
    launch_two(&mut second);
    second.delete();
    assert!(place.is_empty());
}

#[test]
fn a_detached_vm_that_is_half_made_goes_with_its_maker() {
    let place = Place::new();
    let mut supervisor = place.make("vm", "detached", Vec::new());
    supervisor.control = None;
    assert_gone(&place, &mut supervisor, &[]);
}

#[test]
fn a_detached_vm_outlives_a_supervisor_that_is_killed() {
    let place = Place::new();
    let mut supervisor = place.make("vm", "detached", Vec::new());
    write_record(&supervisor);
    launch_two(&mut supervisor);
    supervisor.signal(Signal::KILL);
    supervisor.wait();

    let second = place.make("vm", "adopt", Vec::new());
    assert!(matches!(second.state().status, Status::Ended { how: How::Signal(9), .. }));
    assert!(!second.runtime.join("agent.sock").exists());
    let mut third = place.start("vm", "adopt", Vec::new());
    assert_eq!(third.next(), Some(Report::Exists));
}
