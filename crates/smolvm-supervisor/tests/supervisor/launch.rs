//! What is started for a VM: with what, in which order, and what is kept of what it says.

use std::fs::{File, Permissions};
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::Signal;
use smolvm_supervisor::control::{Access, How, Order, Program, Report, Setting};
use smolvm_supervisor::state::Status;
use smolvm_testkit::skip;

use crate::rig::{Place, Supervisor, eventually, shell};

/// The numbers and targets of the descriptors in a listing by `ls -l`.
fn descriptors(listing: &str) -> Vec<(&str, &str)> {
    let arrows = listing.lines().filter_map(|line| line.split_once(" -> "));
    let mut found: Vec<_> =
        arrows.map(|(left, target)| (left.rsplit(' ').next().unwrap(), target)).collect();
    found.sort_unstable();
    found
}

fn vmm_log(supervisor: &Supervisor) -> String {
    fs_err::read_to_string(supervisor.state.join("vmm.log")).unwrap_or_default()
}

/// What the owner's process did not close on exec must not be kept open by a VMM.
#[test]
fn programs_get_the_descriptors_that_are_theirs_and_no_others() {
    let place = Place::new();
    let file = place.path().join("file");
    fs_err::write(&file, "for the VMM").unwrap();
    let stray = File::open("/dev/zero").unwrap();
    fcntl_setfd(&stray, FdFlags::empty()).unwrap();

    let mut supervisor = place.make("vm", "owned", vec![File::open(&file).unwrap().into()]);
    let list = "exec 2>&1; ls -l /proc/$$/fd; echo done";
    let helper = Program::helper(["sh", "-c", &format!("{list}; exec sleep 1000")], None);
    supervisor.launch(vec![helper, shell(list)]);

    eventually("the VMM has listed them", || supervisor.console().ends_with("done\n"));
    let console = supervisor.console();
    let found = descriptors(&console);
    let numbers: Vec<_> = found.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, ["0", "1", "10", "2", "9"], "{console}");
    assert_eq!(found[0].1, "/dev/null");
    assert_eq!(Path::new(found[2].1), file);
    assert!(found[4].1.starts_with("socket:"), "{console}");

    eventually("the helper has listed them", || vmm_log(&supervisor).ends_with("done\n"));
    let log = vmm_log(&supervisor);
    let numbers: Vec<_> = descriptors(&log).iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, ["0", "1", "2"], "{log}");

    for entry in fs_err::read_dir(format!("/proc/{}/fd", supervisor.child.id())).unwrap() {
        let target = fs_err::read_link(entry.unwrap().path()).unwrap();
        assert_ne!(target, Path::new("/dev/zero"));
    }
    supervisor.delete();
}

#[test]
fn a_program_beside_the_vmm_is_waited_for() {
    let place = Place::new();
    let mut supervisor = place.make("vm", "owned", Vec::new());
    let socket = supervisor.runtime.join("net.sock");
    let helper = Program::helper(["sleep", "1000"], socket.clone());
    supervisor.tell(&Order::Launch(vec![helper, shell("echo started")]));
    // The test listens in place of the helper, when it is sure that the VMM was not started.
    eventually("the helper runs", || {
        let children = format!("/proc/{0}/task/{0}/children", supervisor.child.id());
        !fs_err::read_to_string(children).unwrap().is_empty()
    });
    assert_eq!(supervisor.console(), "");
    let _listener = UnixListener::bind(socket).unwrap();
    assert!(matches!(supervisor.next(), Some(Report::Launched(_))));
    eventually("the VMM runs", || supervisor.console() == "started\n");
    supervisor.delete();
}

#[test]
fn what_cannot_be_started_is_told_with_its_reason() {
    let place = Place::new();
    let mut supervisor = place.make("vm", "owned", Vec::new());
    let missing = Program::vmm(["/nowhere/qemu-system-x86_64"]);
    let socket = supervisor.runtime.join("net.sock");
    let broken =
        Program::helper(["sh", "-c", "echo no such interface >&2; exit 4"], socket.clone());
    let silent = Program::helper(["sleep", "1000"], socket);
    for (programs, reasons) in [
        (vec![missing], ["cannot start /nowhere/qemu-system-x86_64", "No such file"]),
        (vec![broken, shell("")], ["sh ended early (exit status: 4)", ": no such interface"]),
        (vec![silent, shell("")], ["sleep does not listen on", "net.sock"]),
        (vec![], ["there is no program to start", ""]),
    ] {
        supervisor.tell(&Order::Launch(programs));
        let Some(Report::Failed(why)) = supervisor.next() else { panic!("it did not fail") };
        for reason in reasons {
            assert!(why.contains(reason), "{why}");
        }
        assert_eq!(supervisor.state().status, Status::Created);
        assert_eq!(fs_err::read_dir(&supervisor.runtime).unwrap().count(), 0);
        let children = format!("/proc/{0}/task/{0}/children", supervisor.child.id());
        assert_eq!(fs_err::read_to_string(children).unwrap(), "");
    }
    supervisor.launch(vec![shell("")]);
    supervisor.tell(&Order::Launch(vec![shell("")]));
    assert_eq!(supervisor.next(), Some(Report::Failed("the VMM runs already".into())));
    supervisor.delete();
}

#[test]
fn a_launch_can_be_given_up() {
    let place = Place::new();
    let mut supervisor = place.make("vm", "owned", Vec::new());
    let never = supervisor.runtime.join("never.sock");
    let helper = Program::helper(["sleep", "1000"], never);
    supervisor.tell(&Order::Launch(vec![helper, shell("")]));
    supervisor.tell(&Order::Kill);
    assert_eq!(supervisor.next(), Some(Report::Failed("the launch was given up".into())));
    // With nothing to kill there is nothing to tell.
    supervisor.tell(&Order::Kill);
    supervisor.delete();
}

#[test]
fn the_end_of_the_vmm_is_the_end_of_all() {
    let place = Place::new();
    let mut supervisor = place.make("vm", "owned", Vec::new());
    for exit in [0, 3] {
        let helper = Program::helper(["sleep", "1000"], None);
        let line = format!("printf 'the last words'; exit {exit}");
        supervisor.tell(&Order::Launch(vec![helper, Program::vmm(["sh", "-c", &line])]));
        assert!(matches!(supervisor.next(), Some(Report::Launched(_))));
        assert_eq!(supervisor.next(), Some(Report::Ended(How::Exit(exit))));
        let state = supervisor.state();
        assert!(matches!(state.status, Status::Ended { how, .. } if how == How::Exit(exit)));
        assert!(state.started.is_some());
        assert_eq!(state.helpers, []);
        assert!(supervisor.console().ends_with("the last words"));
        assert_eq!(fs_err::read_dir(&supervisor.runtime).unwrap().count(), 0);
        let children = format!("/proc/{0}/task/{0}/children", supervisor.child.id());
        assert_eq!(fs_err::read_to_string(children).unwrap(), "");
    }
    supervisor.delete();
}

/// The VMM opens nothing of its user's by itself: as root it is somebody who could not.
#[test]
fn a_vmm_is_another_user_with_descriptors_of_what_it_needs() {
    const USER: u32 = 0x7000_0001;
    let place = Place::new();
    let mut supervisor = place.make("vm", "owned", Vec::new());
    let path = |name: &str| place.path().join(name);
    for name in ["disk", "initrd"] {
        fs_err::write(path(name), format!("the {name}\n")).unwrap();
        fs_err::set_permissions(path(name), Permissions::from_mode(0o600)).unwrap();
    }
    let network = UnixListener::bind(path("network")).unwrap();
    let file = |number, access, name| Setting::File { number, access, path: path(name) };
    let line = "cat /proc/self/fd/13; cat /proc/self/fd/12; echo written >&12; echo net >&15; \
                ulimit -f; id -u; id -G; grep -E 'CapEff|NoNewPrivs' /proc/self/status; echo end";
    // Other shells know no descriptors of two digits.
    let mut vmm = Program::vmm(["bash", "-c", &format!("{line}; exec sleep 1000")])
        .with(file(12, Access::Write, "disk"))
        .with(file(13, Access::Copy, "initrd"))
        .with(file(14, Access::Listen, "monitor"))
        .with(file(15, Access::Connect, "network"))
        .with(Setting::FileSize(1 << 20));
    let is_root = rustix::process::geteuid().is_root();
    if is_root {
        vmm = vmm.with(Setting::User { number: USER, groups: vec![77] });
    }
    supervisor.launch(vec![vmm]);
    eventually("it has said all", || supervisor.console().ends_with("end\n"));
    let said = supervisor.console();
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines[0], "the initrd");
    // In KiB.
    assert!(lines.contains(&"1024"), "{said}");
    assert!(lines.contains(&"NoNewPrivs:\t1"), "{said}");
    if is_root {
        // It may not open the disk anew, but write to what it has.
        assert!(!lines.contains(&"the disk"), "{said}");
        assert!(lines.contains(&USER.to_string().as_str()), "{said}");
        assert!(lines.contains(&format!("{USER} 77").as_str()), "{said}");
        assert!(lines.contains(&"CapEff:\t0000000000000000"), "{said}");
    }
    assert!(fs_err::read_to_string(path("disk")).unwrap().starts_with("written\n"));
    let mut greeting = [0; 4];
    network.accept().unwrap().0.read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting, b"net\n");
    UnixStream::connect(path("monitor")).unwrap();
    supervisor.kill_vmm();
    supervisor.delete();
}

#[test]
fn a_setting_that_cannot_be_is_told_with_its_path() {
    let place = Place::new();
    let mut supervisor = place.make("vm", "owned", Vec::new());
    let path = place.path().join("missing");
    let setting = Setting::File { number: 12, access: Access::Write, path };
    supervisor.tell(&Order::Launch(vec![shell("").with(setting)]));
    let Some(Report::Failed(why)) = supervisor.next() else { panic!("it did not fail") };
    assert!(why.contains("missing: No such file"), "{why}");
    supervisor.delete();
}

/// A cgroup goes with its VMM, and a supervisor takes one that another left.
#[test]
fn a_vmm_has_a_cgroup_of_its_own() {
    let mounts = fs_err::read_to_string("/proc/self/mountinfo").unwrap();
    let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "));
    let Some(mount) = mount.and_then(|line| line.split(' ').nth(4)) else {
        return skip("there are no cgroups of version 2");
    };
    let group = Path::new(mount).join(format!("smolvm-test-{}", std::process::id()));
    if let Err(error) = fs_err::create_dir(&group) {
        return skip(&format!("cgroups cannot be made (root can): {error}"));
    }
    let place = Place::new();
    let mut supervisor = place.make("vm", "owned", Vec::new());
    let limits = vec![("cgroup.max.descendants".to_owned(), "0".to_owned())];
    let setting = Setting::Group { path: group.clone(), limits };
    let inside = |process: u32| {
        let cgroups = fs_err::read_to_string(format!("/proc/{process}/cgroup")).unwrap();
        cgroups.contains(group.file_name().unwrap().to_str().unwrap())
    };
    let vmm = supervisor.launch(vec![shell("").with(setting.clone())]);
    assert!(inside(vmm.pid) && !inside(supervisor.child.id()));
    let limit = fs_err::read_to_string(group.join("cgroup.max.descendants")).unwrap();
    assert_eq!(limit, "0\n");
    supervisor.kill_vmm();
    assert!(!group.exists());
    let bad = vec![("no.such.limit".to_owned(), "0".to_owned())];
    let refused = Setting::Group { path: group.clone(), limits: bad };
    supervisor.tell(&Order::Launch(vec![shell("").with(refused)]));
    assert!(
        matches!(supervisor.next(), Some(Report::Failed(why)) if why.contains("no.such.limit"))
    );
    assert!(!group.exists());
    supervisor.launch(vec![shell("").with(setting)]);
    supervisor.signal(Signal::KILL);
    supervisor.wait();
    eventually("it can be removed", || fs_err::remove_dir(&group).is_ok());
}

/// A guest that writes to its console without end fills no disk.
#[test]
fn the_console_is_kept_up_to_a_limit() {
    const LIMIT: u64 = 1024 * 1024;
    let place = Place::new();
    let mut supervisor = place.make("vm", "owned", Vec::new());
    let flood = "seq 1000000 1999999; seq 100000 199999 >&2";
    supervisor.tell(&Order::Launch(vec![Program::vmm(["sh", "-c", flood])]));
    assert!(matches!(supervisor.next(), Some(Report::Launched(_))));
    assert_eq!(supervisor.next(), Some(Report::Ended(How::Exit(0))));

    let older = fs_err::read_to_string(supervisor.state.join("console.log.1")).unwrap();
    assert_eq!(older.len() as u64, LIMIT);
    let newer = supervisor.console();
    assert!(newer.len() as u64 <= LIMIT);
    let kept = older + &newer;
    assert!(kept.ends_with("\n1999998\n1999999\n"));
    let numbers: Vec<u64> = kept.lines().skip(1).map(|line| line.parse().unwrap()).collect();
    assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "lines are missing");

    for name in ["vmm.log", "vmm.log.1"] {
        let length = fs_err::metadata(supervisor.state.join(name)).unwrap().len();
        assert!(length <= LIMIT / 4, "{name} has {length} bytes");
    }
    supervisor.delete();
}
