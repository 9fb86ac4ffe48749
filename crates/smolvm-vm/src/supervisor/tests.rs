//! A machine whose VMM is a shell, from its making to its end.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::*;
use crate::places::VmDirs;

/// Generous, since nothing is shown by how long it takes.
const TIMEOUT: Duration = Duration::from_mins(1);

struct Vms {
    directory: tempfile::TempDir,
}

impl Vms {
    fn new() -> Self {
        let vms = Self { directory: tempfile::tempdir().unwrap() };
        for part in ["vms", "run"] {
            fs_err::create_dir(vms.directory.path().join(part)).unwrap();
        }
        vms
    }

    fn dirs(&self, id: &str) -> VmDirs {
        let path = self.directory.path();
        VmDirs { state: path.join("vms").join(id), runtime: path.join("run").join(id) }
    }

    /// The names in a directory, but for the lock.
    fn names(&self, directory: &str) -> Vec<String> {
        let entries = fs_err::read_dir(self.directory.path().join(directory)).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name != ".lock").collect()
    }

    fn sweep(&self) {
        sweep(&self.directory.path().join("vms"));
    }
}

/// A VMM that says something and then runs until it is killed.
fn shell(line: &str) -> Vec<Program> {
    vec![Program::vmm(["sh", "-c", &format!("{line}; exec sleep 1000")])]
}

/// Waits until something is so.
fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + TIMEOUT;
    while !is_so() {
        assert!(Instant::now() < deadline, "it never was so that {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn process(pid: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}"))
}

#[test]
fn a_machine_is_made_started_killed_and_removed() {
    let vms = Vms::new();
    let dirs = vms.dirs("one");
    let note = dirs.state.with_file_name("../note");
    fs_err::write(&note, "from the library").unwrap();
    let files = vec![OwnedFd::from(File::open(&note).unwrap())];
    let supervisor = Supervisor::spawn(&dirs, Mode::Owned, files).unwrap();
    assert_eq!(status(&dirs.state), Status::Created);
    assert_eq!(supervisor.wait_ended(Duration::ZERO), None);

    let vmm = supervisor.launch(&shell("cat /dev/fd/10; echo problem >&2")).unwrap();
    assert_eq!(status(&dirs.state), Status::Running(vmm));
    let console = dirs.state.join("console.log");
    eventually("the console is logged", || {
        fs_err::read(&console).is_ok_and(|log| log == b"from the library")
    });
    eventually("the VMM is logged", || {
        fs_err::read(dirs.state.join("vmm.log")).is_ok_and(|log| log == b"problem\n")
    });
    assert!(dirs.runtime.join("agent.sock").exists());

    supervisor.kill().unwrap();
    assert_eq!(supervisor.wait_ended(Duration::ZERO), Some(How::Signal(9)));
    assert_eq!(status(&dirs.state), Status::Ended(Some(How::Signal(9))));
    assert!(!process(vmm).exists());
    assert_eq!(fs_err::read_dir(&dirs.runtime).unwrap().count(), 0);

    // It can be started again.
    supervisor.launch(&[Program::vmm(["sh", "-c", "exit 3"])]).unwrap();
    assert_eq!(supervisor.wait_ended(TIMEOUT), Some(How::Exit(3)));

    supervisor.delete().unwrap();
    assert_eq!(vms.names("vms"), [""; 0]);
    assert_eq!(vms.names("run"), [""; 0]);
    vms.sweep();
}
