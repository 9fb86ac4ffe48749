//! Firecracker in its jail, but for its guest: what it may, what it has, what it costs, and what is
//! left of it.

use std::collections::BTreeMap;
use std::fs::{File, Permissions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::{Signal, kill_process};
use smolvm_supervisor::control::{Access, How, Order, Program, Report, Setting};
use smolvm_supervisor::jail::{Jail, JailAccess, JailFile, LOG, SOCKETS};
use smolvm_supervisor::state::Process;
use smolvm_testkit::{named_directory, skip};

use crate::rig::{Place, Supervisor, eventually, pid};

const USER: u32 = 0x7000_0001;

/// A Firecracker in a jail, which waits for what it is told.
struct Jailed {
    place: Place,
    /// Its cgroup, where there are any.
    group: Option<PathBuf>,
    supervisor: Supervisor,
    /// The process that keeps the jail.
    keeper: Process,
}

/// What this needs, which is not everywhere.
fn programs() -> Option<PathBuf> {
    if !rustix::process::geteuid().is_root() {
        skip("only root puts others into jails");
        return None;
    }
    named_directory("SMOLVM_TEST_FIRECRACKER")
}

fn status(process: u32) -> BTreeMap<String, String> {
    let text = fs_err::read_to_string(format!("/proc/{process}/status")).unwrap();
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    lines.map(|(key, value)| (key.to_owned(), words(value))).collect()
}

/// A name of a process's namespace of a kind.
fn namespace(process: u32, kind: &str) -> PathBuf {
    fs_err::read_link(format!("/proc/{process}/ns/{kind}")).unwrap()
}

/// A cgroup that may be made.
fn group() -> Option<PathBuf> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let mounts = mounts();
    let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "))?;
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("smolvm-test-jail-{}-{number}", std::process::id());
    Some(Path::new(mount.split(' ').nth(4)?).join(name))
}

fn mounts() -> String {
    fs_err::read_to_string("/proc/self/mountinfo").unwrap()
}

impl Jailed {
    /// Starts one. `arguments` come before those that it always has.
    fn start(programs: &Path) -> Self {
        let place = Place::new();
        let path = |name: &str| place.path().join(name);
        for (name, mode) in [("kernel", 0o400), ("base", 0o400), ("disk", 0o600), ("shared", 0o600)]
        {
            fs_err::write(path(name), format!("the {name}\n")).unwrap();
            fs_err::set_permissions(path(name), Permissions::from_mode(mode)).unwrap();
        }
        let open = |name| File::open(path(name)).unwrap().into();
        let id = "x".repeat(64);
        let mut supervisor = place.make(&id, "owned", vec![open("kernel"), open("base")]);
        let (sockets, directory) = (supervisor.runtime.join("vmm"), supervisor.state.join("vmm"));
        for directory in [&sockets, &directory] {
            std::fs::DirBuilder::new().mode(0o711).create(directory).unwrap();
        }
        let file = |number, name: &str, access| JailFile { number, name: name.into(), access };
        let jail = Jail {
            user: USER,
            sockets: sockets.clone(),
            directory,
            jailer: programs.join("jailer"),
            program: programs.join("firecracker"),
            has_own_network: true,
            file_size: 1 << 30,
            open_files: 512,
            files: vec![
                file(10, "kernel", JailAccess::Copy),
                file(11, "base", JailAccess::Read),
                file(12, "disk", JailAccess::Own),
                file(13, "shared", JailAccess::Write),
            ],
            arguments: ["--api-sock", "/run/api.sock", "--level", "Info", "--log-path", LOG]
                .map(Into::into)
                .to_vec(),
        };
        let mut line = vec!["/proc/self/exe".into()];
        line.extend(jail.encode());
        let vmm = Program::vmm_with_vsock(line, sockets.join("vsock.sock"))
            .with(Setting::File { number: 12, access: Access::Write, path: path("disk") })
            .with(Setting::File { number: 13, access: Access::Write, path: path("shared") })
            .with(Setting::Init);
        let group = group();
        let limits = vec![("cgroup.max.descendants".to_owned(), "0".to_owned())];
        let setting = group.clone().map(|path| Setting::Group { path, limits });
        let keeper = supervisor.launch(vec![setting.into_iter().fold(vmm, Program::with)]);
        let jailed = Self { place, group, supervisor, keeper };
        eventually("it listens", || {
            let log = fs_err::read_to_string(jailed.supervisor.state.join("vmm.log"));
            assert!(jailed.keeper.is_alive(), "{log:?} {}", jailed.supervisor.console());
            jailed.connect().is_some()
        });
        jailed
    }

    fn connect(&self) -> Option<UnixStream> {
        UnixStream::connect(self.supervisor.runtime.join("vmm/api.sock")).ok()
    }

    /// What the API answers.
    fn ask(&self, method: &str, resource: &str, body: &str) -> String {
        let mut api = self.connect().unwrap();
        let length = body.len();
        write!(api, "{method} {resource} HTTP/1.1\r\nContent-Length: {length}\r\n\r\n{body}")
            .unwrap();
        let mut answer = vec![0; 4096];
        let count = api.read(&mut answer).unwrap();
        String::from_utf8_lossy(&answer[..count]).into_owned()
    }

    /// The process of Firecracker itself.
    fn firecracker(&self) -> u32 {
        let children = format!("/proc/{0}/task/{0}/children", self.keeper.pid);
        fs_err::read_to_string(children).unwrap().trim().parse().unwrap()
    }

    /// Waits until nothing of it is left but what the supervisor keeps of one that has ended.
    fn is_gone(&self, firecracker: Process) {
        eventually("the keeper is gone", || !self.keeper.is_alive());
        eventually("Firecracker is gone", || !firecracker.is_alive());
        let place = self.place.path().to_str().unwrap();
        assert!(!mounts().contains(place), "{}", mounts());
        if let Some(group) = &self.group {
            // Its supervisor removes it, or who comes after one that was killed.
            eventually("its cgroup is gone", || {
                fs_err::remove_dir(group).is_ok() || !group.exists()
            });
        }
    }
}

/// What a guest has that takes its VMM over: a root with nothing in it, another user, no network.
#[test]
fn firecracker_is_nobody_and_sees_nothing() {
    let Some(programs) = programs() else { return };
    let mut jailed = Jailed::start(&programs);
    let vmm = jailed.firecracker();
    assert_eq!(fs_err::read_to_string(format!("/proc/{vmm}/comm")).unwrap(), "firecracker\n");

    let status = status(vmm);
    assert_eq!(status["Uid"], [USER.to_string().as_str(); 4].join(" "));
    assert_eq!(status["Gid"], [USER.to_string().as_str(); 4].join(" "));
    assert_eq!(status["Groups"], "");
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(status[set], "0000000000000000", "{set}");
    }
    assert_eq!(status["NoNewPrivs"], "1");
    // It sees its keeper, and no process before that.
    assert_eq!(status["NSpid"].split(' ').count(), 2);
    for kind in ["mnt", "net", "ipc", "uts", "pid"] {
        assert_ne!(namespace(vmm, kind), namespace(std::process::id(), kind), "{kind}");
    }
    let devices = fs_err::read_to_string(format!("/proc/{vmm}/net/dev")).unwrap();
    assert_eq!(devices.lines().skip(2).count(), 1, "{devices}");

    let root = PathBuf::from(format!("/proc/{vmm}/root"));
    let mut names: Vec<_> = fs_err::read_dir(&root)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    let all = [
        "base",
        "dev",
        "disk",
        "files",
        "firecracker",
        "firecracker.pid",
        "kernel",
        "run",
        "shared",
        "vmm.log",
    ];
    assert_eq!(names, all);
    let table = fs_err::read_to_string(format!("/proc/{vmm}/mountinfo")).unwrap();
    let points: Vec<_> = table.lines().filter_map(|line| line.split(' ').nth(4)).collect();
    assert_eq!(points.len(), 6, "{table}");
    for (point, options) in [("/base", "ro,"), ("/disk", "rw,"), ("/files", "rw,"), ("/run", "rw,")]
    {
        let line = table.lines().find(|line| line.split(' ').nth(4) == Some(point)).unwrap();
        let all = line.split(' ').nth(5).unwrap();
        assert!(all.starts_with(&format!("{options}nosuid,nodev,noexec")), "{line}");
    }

    // What it has open: standard streams, and of its own making.
    for entry in fs_err::read_dir(format!("/proc/{vmm}/fd")).unwrap() {
        let target = fs_err::read_link(entry.unwrap().path()).unwrap();
        let target = target.to_str().unwrap();
        let is_own = ["/dev/null", "/vmm.log", "pipe:", "socket:", "anon_inode:"];
        assert!(is_own.iter().any(|own| target.starts_with(own)), "{target}");
    }
    let limits = fs_err::read_to_string(format!("/proc/{vmm}/limits")).unwrap();
    let limit = |name: &str| {
        let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().next().unwrap().to_owned()
    };
    assert_eq!(limit("Max file size"), (1 << 30).to_string());
    assert_eq!(limit("Max open files"), "512");
    assert_eq!(limit("Max core file size"), "0");
    if let Some(group) = jailed.group.as_ref().and_then(|group| group.file_name()) {
        let own = fs_err::read_to_string(format!("/proc/{vmm}/cgroup")).unwrap();
        assert!(own.contains(group.to_str().unwrap()), "{own}");
    }
    jailed.supervisor.delete();
    assert!(jailed.group.is_none_or(|group| !group.exists()));
    assert!(jailed.place.is_empty());
}

/// What it is told works through the walls: its files, its sockets, its log.
#[test]
fn firecracker_works_in_its_jail() {
    let Some(programs) = programs() else { return };
    let mut jailed = Jailed::start(&programs);
    assert!(jailed.ask("GET", "/", "").contains("\"state\":\"Not started\""));
    let done = |answer: String| assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    done(jailed.ask("PUT", "/boot-source", "{\"kernel_image_path\":\"/kernel\"}"));
    for (name, read_only) in [("base", true), ("disk", false), ("shared", false)] {
        let body = format!(
            "{{\"drive_id\":\"{name}\",\"path_on_host\":\"/{name}\",\
             \"is_root_device\":false,\"is_read_only\":{read_only}}}"
        );
        done(jailed.ask("PUT", &format!("/drives/{name}"), &body));
    }
    let body = format!("{{\"guest_cid\":3,\"uds_path\":\"{SOCKETS}/vsock.sock\"}}");
    done(jailed.ask("PUT", "/vsock", &body));
    assert!(jailed.supervisor.runtime.join("vmm/vsock.sock").exists());
    let answer = jailed.ask(
        "PUT",
        "/drives/no",
        "{\"drive_id\":\"no\",\"path_on_host\":\"/etc/passwd\",\"is_root_device\":false}",
    );
    assert!(answer.contains("400"), "{answer}");

    // The files are those that were given, and stay whose they are.
    let vmm = jailed.firecracker();
    for name in ["kernel", "base", "disk", "shared"] {
        let inside = format!("/proc/{vmm}/root/{name}");
        assert_eq!(fs_err::read_to_string(inside).unwrap(), format!("the {name}\n"));
    }
    let owner = |name| fs_err::metadata(jailed.place.path().join(name)).unwrap().uid();
    assert_eq!(["kernel", "base", "disk", "shared"].map(owner), [0, 0, USER, 0]);
    let log = || fs_err::read_to_string(jailed.supervisor.state.join("vmm.log")).unwrap();
    eventually("it has said what it does", || log().contains("/boot-source"));

    // A VMM that ends is told from one that is killed, and its jail goes with it.
    let firecracker = Process::find(vmm).unwrap();
    kill_process(pid(vmm), Signal::KILL).unwrap();
    assert_eq!(jailed.supervisor.next(), Some(Report::Ended(How::Signal(9))));
    jailed.is_gone(firecracker);
    assert_eq!(fs_err::read_dir(&jailed.supervisor.runtime).unwrap().count(), 0);
    jailed.supervisor.delete();
    assert!(jailed.place.is_empty());
}

/// Whoever ends first, the others end with it, and nothing stays mounted.
#[test]
fn nothing_is_left_of_a_jail() {
    let Some(programs) = programs() else { return };
    for signal in [Signal::KILL, Signal::TERM] {
        let mut jailed = Jailed::start(&programs);
        let firecracker = Process::find(jailed.firecracker()).unwrap();
        kill_process(pid(jailed.keeper.pid), signal).unwrap();
        let ended = Report::Ended(How::Signal(signal.as_raw()));
        assert_eq!(jailed.supervisor.next(), Some(ended));
        jailed.is_gone(firecracker);
        jailed.supervisor.delete();
        assert!(jailed.place.is_empty());
    }
    // The supervisor.
    let mut jailed = Jailed::start(&programs);
    let firecracker = Process::find(jailed.firecracker()).unwrap();
    jailed.supervisor.signal(Signal::KILL);
    jailed.supervisor.wait();
    jailed.is_gone(firecracker);
    // The owner.
    let mut jailed = Jailed::start(&programs);
    let firecracker = Process::find(jailed.firecracker()).unwrap();
    jailed.supervisor.control = None;
    assert!(jailed.supervisor.wait().success());
    jailed.is_gone(firecracker);
    assert!(jailed.place.is_empty());
}

#[test]
fn a_jail_that_cannot_be_made_says_why() {
    let Some(programs) = programs() else { return };
    let place = Place::new();
    let mut supervisor = place.make("vm", "owned", Vec::new());
    let jail = Jail {
        user: USER,
        sockets: supervisor.runtime.join("missing"),
        directory: supervisor.state.clone(),
        jailer: programs.join("jailer"),
        program: programs.join("firecracker"),
        has_own_network: false,
        file_size: 0,
        open_files: 64,
        files: Vec::new(),
        arguments: Vec::new(),
    };
    let mut line = vec!["/proc/self/exe".into()];
    line.extend(jail.encode());
    supervisor.tell(&Order::Launch(vec![Program::vmm(line).with(Setting::Init)]));
    assert!(matches!(supervisor.next(), Some(Report::Launched(_))));
    assert_eq!(supervisor.next(), Some(Report::Ended(How::Exit(1))));
    let log = fs_err::read_to_string(supervisor.state.join("vmm.log")).unwrap();
    assert!(log.contains("cannot make the jail: ") && log.contains("missing: No such"), "{log}");
    supervisor.delete();
}
