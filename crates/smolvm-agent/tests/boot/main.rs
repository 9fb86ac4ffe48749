//! Boots real kernels with the agent as their first process, and looks at what it has made of the
//! guest.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, with the line that failed"
)]

mod machine;
mod newc;
mod session;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use machine::{Disk, Setup};
use smolvm_protocol::Exit;
use tempfile::TempDir;

/// A copy of a disk that may be changed.
fn copy_of(disk: &Path) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let copy = directory.path().join("disk");
    fs::copy(disk, &copy).unwrap();
    (directory, copy)
}

/// Has `debugfs` change an ext4 file system.
fn change(disk: &Path, request: &str) {
    let changed = Command::new("debugfs").args(["-w", "-R", request]).arg(disk).output().unwrap();
    assert!(changed.status.success(), "{changed:?}");
}

/// What is in a file of an ext4 file system.
fn file_of(disk: &Path, path: &str) -> String {
    let request = format!("cat {path}");
    let output = Command::new("debugfs").args(["-R", &request]).arg(disk).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// What `dumpe2fs` says of a file system's features and state.
fn superblock(disk: &Path) -> String {
    let output = Command::new("dumpe2fs").arg("-h").arg(disk).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// The targets of all mounts, each with its type.
fn mounts(session: &mut session::Session) -> Vec<(String, String)> {
    let mounts = session.shell("cat /proc/mounts");
    let mount = |line: &str| {
        let mut words = line.split(' ').skip(1).map(str::to_owned);
        Some((words.next()?, words.next()?))
    };
    let mut mounts: Vec<_> = mounts.lines().filter_map(mount).collect();
    mounts.sort();
    mounts
}

/// What is mounted besides the root file system.
const MOUNTS: [(&str, &str); 6] = [
    ("/dev", "devtmpfs"),
    ("/dev/pts", "devpts"),
    ("/dev/shm", "tmpfs"),
    ("/proc", "proc"),
    ("/run", "tmpfs"),
    ("/sys", "sysfs"),
];

fn mount(target: &str, kind: &str) -> (String, String) {
    (target.to_owned(), kind.to_owned())
}

/// Behaviour 45: the image's own init is the first process, and has the agent beside it.
#[test]
fn the_images_init_is_the_first_process_and_the_agent_runs_beside_it() {
    let Some(setup) = Setup::of_image("debian-tiny") else { return };
    let mut machine = setup.boot();
    let greeting = machine.wait_for("Hello from SmolVM!");
    assert!(greeting.ends_with("root on ext4"), "{greeting}");

    let mut session = machine.session();
    assert!(session.welcome.has_init);
    assert!(session.shell("tr '\\0' ' ' </proc/1/cmdline").contains("/sbin/init"));
    let environment =
        session.shell("tr '\\0' '\\n' </proc/1/environ | grep -v '^\\(SHLVL\\|PWD\\)'");
    assert_eq!(environment, "HOME=/\nTERM=linux\n");
    // Both see the same mounts.
    let places = "for link in ns/mnt root; do readlink /proc/1/$link; done";
    let of_init = session.shell(places);
    assert_eq!(session.shell(&places.replace("/1/", "/self/")), of_init);
    let expected = [("/", "ext4")].into_iter().chain(MOUNTS);
    let expected: Vec<_> = expected.map(|(target, kind)| mount(target, kind)).collect();
    assert_eq!(mounts(&mut session), expected);
    assert_eq!(
        session.shell("echo through >/dev/stdout; readlink /dev/fd"),
        "through\n/proc/self/fd\n"
    );
}

/// Behaviour 45: there is no init, and no mount point either.
#[test]
fn without_an_init_the_agent_reaps_lives_on_and_ends_the_guest_in_order() {
    let Some(mut setup) = Setup::of_image("busybox-only") else { return };
    let (_directory, disk) = copy_of(&setup.rootfs());
    setup.disks = vec![Disk::kept(&disk)];
    let mut machine = setup.boot();
    let mut session = machine.session();
    assert!(!session.welcome.has_init);
    assert!(mounts(&mut session).contains(&mount("/sys/fs/cgroup", "cgroup2")));

    // A zombie would be there forever.
    session.shell("(sleep 0.2 & echo $! >/orphan); while [ -e /proc/$(cat /orphan) ]; do :; done");
    // What is reaped is not what someone waits for.
    for code in 0..20 {
        let ended = session.run(&format!("exit {code}"));
        assert_eq!(ended, (String::new(), Exit::Code(code)));
    }

    session.start("kill -9 $PPID");
    machine.wait_for("is started again");
    drop(session);
    let mut session = machine.session();
    session.shell(
        "(trap 'echo asked >/asked; exit' TERM; while :; do sleep 0.1; done) >/dev/null 2>&1 &",
    );
    session.start("kill -TERM 1");
    machine.wait_for_reset();
    assert!(!superblock(&disk).contains("needs_recovery"), "{}", superblock(&disk));
    assert_eq!(file_of(&disk, "/asked"), "asked\n");
}

/// Behaviour 44: a base that is only read, and was not even unmounted cleanly, below a scratch
/// disk.
#[test]
fn what_the_guest_writes_goes_to_the_scratch_disk() {
    let Some(mut setup) = Setup::of_image("debian-tiny") else { return };
    let (directory, base) = copy_of(&setup.rootfs());
    change(&base, "feature needs_recovery");
    let before = fs::read(&base).unwrap();
    let scratch = directory.path().join("scratch");
    File::create(&scratch).unwrap().set_len(64 << 20).unwrap();
    let made = Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&scratch).status().unwrap();
    assert!(made.success());

    setup.disks = vec![Disk::read_only(&base), Disk::kept(&scratch)];
    setup.config.push_str("scratch=/dev/vdb\ninit=none\n");
    let mut machine = setup.boot();
    let mut session = machine.session();
    let root = session.shell("grep ' / ' /proc/mounts");
    assert!(root.starts_with("overlay / overlay rw") && root.contains("redirect_dir=on"), "{root}");
    // Nobody but the overlay reaches its layers.
    let layers = mounts(&mut session).into_iter().filter(|(target, _)| target.contains("smolvm"));
    assert_eq!(layers.count(), 0);
    assert_eq!(session.shell("stat -c '%a %u' /"), "755 0\n");
    session.shell("echo kept >/kept; mv /etc /moved");
    session.start("kill -TERM 1");
    machine.wait_for_reset();
    assert!(fs::read(&base).unwrap() == before, "the base was written to");
    assert_eq!(file_of(&scratch, "/upper/kept"), "kept\n");
}

/// A disk that nothing may be written to, on a machine with PCI.
#[test]
fn what_the_guest_writes_stays_in_memory_where_there_is_nothing_else() {
    let Some(mut setup) = Setup::of_image("debian-tiny") else { return };
    setup.disks = vec![Disk::read_only(&setup.rootfs())];
    setup.config.push_str("init=none\n");
    setup.machine = "q35";
    let mut machine = setup.boot();
    machine.wait_for("smolvm-agent: the root file system can only be read");
    let mut session = machine.session();
    assert_eq!(mounts(&mut session)[0], mount("/", "overlay"));
    assert_eq!(session.shell("echo here >/etc/here; cat /etc/here"), "here\n");
}

/// Behaviour 46: one line says why, and the machine ends.
#[test]
fn a_guest_that_cannot_boot_says_why_and_resets_the_machine() {
    for (config, why) in [
        ("root=/dev/vdb\n", "the machine has no disk /dev/vdb; its disks are /dev/vda"),
        ("root=/dev/vda\ninit=/absent\n", "the root file system has no program /absent"),
    ] {
        let Some(mut setup) = Setup::of_image("debian-tiny") else { return };
        config.clone_into(&mut setup.config);
        let mut machine = setup.boot();
        machine.wait_for(&format!("smolvm-agent: fatal: {why}"));
        machine.wait_for_reset();
    }
}
