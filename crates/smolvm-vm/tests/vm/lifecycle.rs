//! Who owns a machine, who else sees it, and what is left of it.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use smolvm_image::CancelToken;
use smolvm_testkit::Numbers;
use smolvm_vm::{SmolVm, Vm, VmError, VmErrorKind, VmState};

use super::images::{Image, Site, TINY};
use super::owner::{Owner, SITE_MARK};

/// How many owners are killed; more by `SMOLVM_TEST_KILLS`.
const KILLS: u64 = 12;

/// Long, since nothing is shown by how long it takes.
const BOOT: Duration = Duration::from_mins(2);

/// The processes that have a path below `directory` on their command line, or the mark of its
/// site among their variables.
fn processes_with(site: &Site) -> Vec<String> {
    let wanted = site.vms_dir().into_os_string().into_string().unwrap();
    let mark = format!("{SITE_MARK}={}\0", site.temp.path().display());
    let text = |path: PathBuf| {
        String::from_utf8_lossy(&fs_err::read(path).unwrap_or_default()).into_owned()
    };
    let mut found = Vec::new();
    for entry in fs_err::read_dir("/proc").unwrap() {
        let path = entry.unwrap().path();
        let is_process = path.file_name().unwrap().to_str().unwrap().parse::<u32>().is_ok();
        if !is_process || path.ends_with(std::process::id().to_string()) {
            continue;
        }
        let line = text(path.join("cmdline")).replace('\0', " ");
        let is_marked = text(path.join("environ")).contains(&mark);
        if (line.contains(&wanted) || is_marked) && !line.contains("is_run_by_other_tests") {
            found.push(line);
        }
    }
    found
}

/// Waits until nothing is left of a site's machines, and says how long that took, and what is left
/// otherwise.
pub(crate) fn assert_gone(site: &Site) -> Duration {
    let begun = Instant::now();
    loop {
        let (processes, files) = (processes_with(site), site.left());
        let sockets = site.sockets_left();
        if processes.is_empty() && files.is_empty() && sockets.is_empty() {
            return begun.elapsed();
        }
        let is_late = begun.elapsed() > Duration::from_secs(10);
        assert!(!is_late, "left: {processes:#?}, {files:?}, {sockets:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Behaviour 48: whenever the owner is killed, nothing is left of its machine.
#[test]
fn a_killed_owner_leaves_nothing() {
    let Some(image) = Image::find(TINY) else { return };
    let before = image.rootfs_digest();
    let mut numbers = Numbers::of_this_run();
    let kills = std::env::var("SMOLVM_TEST_KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
    let (mut longest, mut most) = (Duration::ZERO, 0);
    for kill in 0..kills {
        let site = Site::new();
        site.vms();
        let mut owner = Owner::start_apart(&image, &site);
        let moment = numbers.below(4000);
        thread::sleep(Duration::from_millis(moment));
        let had = processes_with(&site).len();
        owner.kill();
        let took = assert_gone(&site);
        println!("kill {kill} after {moment} ms: {had} processes gone in {took:?}");
        longest = longest.max(took);
        most = most.max(had);
    }
    println!("{kills} kills: the longest took {longest:?}");
    // A supervisor and QEMU at least: else nothing was looked for that could be left.
    assert!(most >= 2, "at most {most} processes were seen");
    assert_eq!(image.rootfs_digest(), before);
}

/// Behaviour 48: a machine is seen from another program, and ends with its own.
#[test]
fn another_program_sees_a_machine_and_uses_it() {
    let Some(image) = Image::find(TINY) else { return };
    let site = Site::new();
    let mut owner = Owner::start(&image, &site);
    let id = owner.booted();
    let list = site.vms().list().unwrap();
    assert_eq!(list.len(), 1);
    assert_eq!((list[0].id.as_str(), list[0].state), (id.as_str(), VmState::Running));
    let vm = site.vms().open(&id).unwrap();
    assert_eq!(vm.run("echo from elsewhere").unwrap().stdout(), "from elsewhere\n");
    assert!(vm.get_ip().is_ok());
    owner.kill();
    assert_gone(&site);
    assert_eq!(vm.status(), VmState::Stopped);
    assert!(matches!(site.vms().open(&id), Err(VmError::NotFound { .. })));
}

/// Behaviour 48: a machine that was started to stay is only ended by name.
#[test]
fn a_detached_machine_outlives_its_maker() {
    let Some(image) = Image::find(TINY) else { return };
    let site = Site::new();
    let vm = SmolVm::new(image.config(&site).id("stays").unwrap().detached(true)).unwrap();
    vm.start().unwrap();
    drop(vm);
    let vm = site.vms().open("stays").unwrap();
    assert_eq!(vm.status(), VmState::Running);
    assert_eq!(vm.run("echo kept > /root/kept; sync; echo ok").unwrap().stdout(), "ok\n");
    vm.stop().unwrap();
    assert_eq!(vm.status(), VmState::Stopped);
    drop(vm);
    let vm = site.vms().open("stays").unwrap();
    vm.start().unwrap();
    assert_eq!(vm.run("cat /root/kept").unwrap().stdout(), "kept\n");
    vm.delete().unwrap();
    assert_gone(&site);
}

#[test]
fn two_makers_of_one_id_and_one_machine() {
    let Some(image) = Image::find(TINY) else { return };
    let site = Site::new();
    let make = || SmolVm::new(image.config(&site).id("one").unwrap());
    let all: Vec<_> = thread::scope(|scope| {
        let makers: Vec<_> = (0..8).map(|_| scope.spawn(make)).collect();
        makers.into_iter().map(|maker| maker.join().unwrap()).collect()
    });
    let (won, lost): (Vec<_>, Vec<_>) = all.into_iter().partition(Result::is_ok);
    assert_eq!(won.len(), 1);
    for error in lost.into_iter().map(Result::unwrap_err) {
        assert!(matches!(error, VmError::AlreadyExists { .. }), "{error}");
    }
    drop(won);
    assert_gone(&site);
    make().unwrap();
}

#[test]
fn many_machines_of_one_image() {
    let Some(image) = Image::find(TINY) else { return };
    let site = Site::new();
    let before = image.rootfs_digest();
    thread::scope(|scope| {
        for number in 0..4 {
            let (image, site) = (&image, &site);
            scope.spawn(move || {
                let vm = Vm::boot(image.config(site).mem_size_mib(192)).unwrap();
                vm.run(format!("echo {number} > /own && sync").as_str()).unwrap();
                assert_eq!(vm.run("cat /own").unwrap().stdout(), format!("{number}\n"));
            });
        }
    });
    assert_gone(&site);
    assert_eq!(image.rootfs_digest(), before);
}

#[test]
fn a_guest_that_ends_by_itself_is_told_of() {
    let Some(image) = Image::find(TINY) else { return };
    let site = Site::new();
    let vm = Vm::boot(image.config(&site)).unwrap();
    let _ = vm.run("echo b > /proc/sysrq-trigger; sleep 10");
    let deadline = Instant::now() + Duration::from_secs(10);
    while vm.status() == VmState::Running {
        assert!(Instant::now() < deadline);
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(vm.status(), VmState::Stopped);
    // The session that was open may not have heard of it yet, which is another error.
    assert!(vm.run("true").is_err());
    assert_eq!(vm.info().ended.as_deref(), Some("exit 0"));
}

#[test]
fn a_start_that_is_cancelled_leaves_the_machine_stopped_and_it_can_be_started_again() {
    let Some(image) = Image::find(TINY) else { return };
    let site = Site::new();
    let vm = SmolVm::new(image.config(&site)).unwrap();
    let cancel = CancelToken::new();
    thread::scope(|scope| {
        let starting = scope.spawn(|| vm.cancelled_by(&cancel).start_within(BOOT));
        while vm.console_log().is_empty() {
            assert!(!starting.is_finished(), "it booted without a word");
            thread::sleep(Duration::from_millis(5));
        }
        cancel.cancel();
        let error = starting.join().unwrap().unwrap_err();
        assert_eq!(error.kind(), VmErrorKind::Cancelled, "{error}");
    });
    assert_eq!(vm.status(), VmState::Stopped);
    vm.start_within(BOOT).unwrap();
    assert!(vm.run("true").unwrap().ok());
}
