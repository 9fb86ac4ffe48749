//! What is left of machines that end in every way there is: no process, file, socket, device, rule,
//! cgroup or mount.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use smolvm_supervisor::state::{Process, State, Status};
use smolvm_testkit::Numbers;
use smolvm_testkit::network::World;
use smolvm_vm::{NetworkMode, SmolVm};

use super::backend;
use super::egress::{assert_no_devices, assert_nothing_left};
use super::images::{Image, Site, TINY};
use super::lifecycle::assert_gone;
use super::owner::Owner;

/// How many machines there are; more by `SMOLVM_TEST_KILLS`.
const MACHINES: usize = 16;

/// How a machine comes to its end.
#[derive(Debug, Clone, Copy)]
enum End {
    /// Its owner ends it.
    InOrder,
    /// Its owner is killed at some moment of its boot.
    OwnerKilledEarly,
    OwnerKilled,
    OwnerTerminated,
    SupervisorKilled,
    SupervisorTerminated,
    VmmKilled,
    /// What makes its network is killed.
    HelperKilled,
}

/// All of them; the first are those that a run of few machines is about.
const ENDS: [End; 8] = [
    End::OwnerKilled,
    End::VmmKilled,
    End::SupervisorKilled,
    End::HelperKilled,
    End::OwnerKilledEarly,
    End::InOrder,
    End::OwnerTerminated,
    End::SupervisorTerminated,
];

fn kill(process: Process, signal: Signal) {
    let pid = i32::try_from(process.pid).ok().and_then(Pid::from_raw).unwrap();
    kill_process(pid, signal).unwrap();
}

fn end(end: End, owner: &mut Owner, site: &Site, moment: Duration) {
    if let End::OwnerKilledEarly = end {
        thread::sleep(moment);
        return owner.kill();
    }
    let id = owner.booted();
    let state = State::read(&site.vms_dir().join(id)).unwrap().unwrap();
    let Status::Running(vmm) = state.status else { panic!("{state:?}") };
    match end {
        End::InOrder => return owner.end(),
        End::OwnerKilledEarly | End::OwnerKilled => {}
        End::OwnerTerminated => return owner.signal(Signal::TERM),
        End::SupervisorKilled => kill(state.supervisor, Signal::KILL),
        End::SupervisorTerminated => kill(state.supervisor, Signal::TERM),
        End::VmmKilled => kill(vmm, Signal::KILL),
        End::HelperKilled => kill(state.helpers[0], Signal::KILL),
    }
    owner.kill();
}

/// The cgroups of machines.
fn cgroups() -> Vec<PathBuf> {
    let mounts = fs_err::read_to_string("/proc/self/mountinfo").unwrap();
    let mounts = mounts.lines().filter(|line| line.contains(" - cgroup2 "));
    let places = mounts.map(|line| Path::new(line.split(' ').nth(4).unwrap()).join("smolvm"));
    let entries = places.filter_map(|place| fs_err::read_dir(place).ok()).flatten();
    entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect()
}

fn mounts() -> String {
    fs_err::read_to_string("/proc/self/mountinfo").unwrap()
}

/// Behaviour 48, for everything that a machine can have.
#[test]
fn machines_that_end_in_every_way_leave_nothing() {
    let Some(image) = Image::find(TINY) else { return };
    let Some(world) = World::new() else { return };
    world.host.forward();
    let (mounts_before, cgroups_before) = (mounts(), cgroups());
    let mut numbers = Numbers::of_this_run();
    let count = std::env::var("SMOLVM_TEST_KILLS").map_or(MACHINES, |kills| kills.parse().unwrap());
    for number in 0..count {
        let (how, round) = (ENDS[number % ENDS.len()], number / ENDS.len());
        let network = ["tap", "user"][(number + round) % 2];
        let site = Site::new();
        site.vms();
        let start = || Owner::start_with_network(&image, &site, network);
        let mut owner = world.host.within(start);
        end(how, &mut owner, &site, Duration::from_millis(numbers.below(4000)));
        drop(owner);
        if let End::SupervisorKilled = how {
            // What a supervisor that was killed leaves is removed by the next one that is needed;
            // not before the kernel has removed the guest's device.
            assert_no_devices(&world.host);
            let config = backend::on_tested_backend(image.config(&site)).network(NetworkMode::Tap);
            world.host.within(|| SmolVm::new(config)).unwrap().delete().unwrap();
        }
        let took = assert_gone(&site);
        assert_nothing_left(&world.host);
        println!("{number}: {network}, {how:?}: gone in {took:?}");
    }
    let new = |path: &PathBuf| !cgroups_before.contains(path);
    let left: Vec<_> = cgroups().into_iter().filter(new).collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(mounts(), mounts_before);
    let _ = fs_err::remove_dir_all(format!("/run/smolvm/tap/{}", world.host.number()));
}
