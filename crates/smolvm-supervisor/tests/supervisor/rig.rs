//! A supervisor that a test has started, with a place for its directories.

use std::io::{Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use command_fds::CommandFdExt as _;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use smolvm_supervisor::PROGRAM;
use smolvm_supervisor::control::{How, Messages, Order, Program, Report};
use smolvm_supervisor::state::{Process, State};
use tempfile::TempDir;

/// Generous: nothing is shown by how long it takes.
pub(crate) const TIMEOUT: Duration = Duration::from_mins(1);

/// Where a test has the directories of its VMs.
pub(crate) struct Place(TempDir);

/// A supervisor that was started.
pub(crate) struct Supervisor {
    pub(crate) state: PathBuf,
    pub(crate) runtime: PathBuf,
    pub(crate) child: Child,
    pub(crate) control: Option<UnixStream>,
    messages: Messages,
}

impl Place {
    pub(crate) fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs_err::create_dir(place.0.path().join("vms")).unwrap();
        fs_err::create_dir(place.0.path().join("run")).unwrap();
        place
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Whether nothing is left of any VM.
    pub(crate) fn is_empty(&self) -> bool {
        let names = |directory| {
            let entries = fs_err::read_dir(self.path().join(directory)).unwrap();
            entries.map(|entry| entry.unwrap().file_name()).filter(|name| name != ".lock").count()
        };
        names("vms") + names("run") == 0
    }

    /// Starts a supervisor that this process owns, and does not wait for what it says first.
    pub(crate) fn start(&self, id: &str, mode: &str, files: Vec<OwnedFd>) -> Supervisor {
        self.start_for(id, mode, std::process::id(), files)
    }

    /// As `start`, with another process as the owner.
    pub(crate) fn start_for(
        &self,
        id: &str,
        mode: &str,
        owner: u32,
        files: Vec<OwnedFd>,
    ) -> Supervisor {
        let (control, theirs) = UnixStream::pair().unwrap();
        control.set_read_timeout(Some(TIMEOUT)).unwrap();
        let state = self.path().join("vms").join(id);
        let runtime = self.path().join("run").join(id);
        let owner = pidfd_open(pid(owner), PidfdFlags::empty()).unwrap();
        let mut inherited = vec![owner];
        inherited.extend(files);
        let mut command = Command::new(program());
        command.arg0("smolvm-supervisor").arg(&state).arg(&runtime).arg(mode);
        command.args(inherited.iter().map(|file| file.as_raw_fd().to_string()));
        command.preserved_fds(inherited).stdin(Stdio::from(OwnedFd::from(theirs)));
        let child = command.spawn().unwrap();
        let messages = Messages::default();
        Supervisor { state, runtime, child, control: Some(control), messages }
    }

    /// Starts a supervisor, and waits until the VM is made.
    pub(crate) fn make(&self, id: &str, mode: &str, files: Vec<OwnedFd>) -> Supervisor {
        let mut supervisor = self.start(id, mode, files);
        assert_eq!(supervisor.next(), Some(Report::Ready));
        supervisor
    }
}

impl Supervisor {
    pub(crate) fn tell(&mut self, order: &Order) {
        self.control.as_mut().unwrap().write_all(&order.encode()).unwrap();
    }

    /// What it says next; `None` when it says nothing more.
    pub(crate) fn next(&mut self) -> Option<Report> {
        loop {
            if let Some(report) = self.messages.next_report().unwrap() {
                return Some(report);
            }
            let mut buffer = [0; 4096];
            match self.control.as_mut().unwrap().read(&mut buffer).unwrap() {
                0 => return None,
                count => self.messages.push(&buffer[..count]),
            }
        }
    }

    /// Starts programs that can be started; returns the VMM's process.
    pub(crate) fn launch(&mut self, programs: Vec<Program>) -> Process {
        self.tell(&Order::Launch(programs));
        match self.next() {
            Some(Report::Launched(pid)) => match self.state().status {
                smolvm_supervisor::state::Status::Running(process) => {
                    assert_eq!(process.pid, pid);
                    process
                }
                other => panic!("it is launched and {other:?}"),
            },
            other => panic!("not launched: {other:?}"),
        }
    }

    pub(crate) fn kill_vmm(&mut self) {
        self.tell(&Order::Kill);
        assert_eq!(self.next(), Some(Report::Ended(How::Signal(9))));
    }

    pub(crate) fn delete(&mut self) {
        self.tell(&Order::Delete);
        loop {
            match self.next() {
                Some(Report::Ended(_)) => {}
                other => break assert_eq!(other, Some(Report::Deleted)),
            }
        }
        assert!(self.wait().success());
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(pid(self.child.id()), signal).unwrap();
    }

    /// Waits until it has ended.
    pub(crate) fn wait(&mut self) -> std::process::ExitStatus {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the supervisor does not end");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub(crate) fn state(&self) -> State {
        State::read(&self.state).unwrap().unwrap()
    }

    pub(crate) fn console(&self) -> String {
        let log = fs_err::read(self.state.join("console.log")).unwrap_or_default();
        String::from_utf8(log).unwrap()
    }

    /// The most memory that it has had, in bytes.
    pub(crate) fn peak_memory(&self) -> u64 {
        let status = fs_err::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        1024 * line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        // A test that failed leaves nothing behind: the kernel ends the VMM with its supervisor.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A VMM that runs this line, and then until it is killed.
pub(crate) fn shell(line: &str) -> Program {
    Program::vmm(["sh", "-c", &format!("{line}\nexec sleep 1000")])
}

/// Waits until something is so.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + TIMEOUT;
    while !is_so() {
        assert!(Instant::now() < deadline, "it never was so that {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub(crate) fn pid(number: u32) -> Pid {
    Pid::from_raw(i32::try_from(number).unwrap()).unwrap()
}

/// The program as a file, the same for all tests.
fn program() -> &'static Path {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    FILE.get_or_init(|| {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let mut file = tempfile::NamedTempFile::new_in(directory).unwrap();
        file.write_all(PROGRAM).unwrap();
        file.as_file().set_permissions(std::fs::Permissions::from_mode(0o755)).unwrap();
        let path = directory.join("smolvm-supervisor");
        // The rename replaces what another run may be executing.
        file.into_temp_path().persist(&path).unwrap();
        path
    })
}
