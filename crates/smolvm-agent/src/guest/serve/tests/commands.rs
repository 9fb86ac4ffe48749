//! Commands run as they would as children of a program of this machine (behaviour 47).

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use smolvm_protocol::{Exit, Failure, FailureKind, MAX_CHANNELS, Program, Reply, Request, Stream};
use smolvm_testkit::skip;

use super::host::{Host, Outcome, eventually, is_running, program, sh};

const SIGTERM: u8 = 15;
const SIGKILL: u8 = 9;

fn kind(result: Result<Outcome, Failure>) -> FailureKind {
    result.unwrap_err().kind
}

/// Only root may become somebody else.
fn require_root() -> bool {
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    if !is_root {
        skip("only root can run commands as other users");
    }
    is_root
}

#[test]
fn a_command_says_what_it_has_to_say_and_ends() {
    let mut host = Host::connect();
    let outcome = host.sh("echo out; echo err >&2; exit 3");
    assert_eq!(outcome.stdout, b"out\n");
    assert_eq!(outcome.stderr, b"err\n");
    assert_eq!(outcome.exit, Exit::Code(3));
    assert_eq!(host.exec(program(&["echo", "a b", ""])).unwrap().text(), "a b \n");
    assert_eq!(host.sh("printf 'no newline'").text(), "no newline");
    assert_eq!(host.sh("printf '\\000\\377'").stdout, [0, 255]);
    assert_eq!(host.sh("exit 255").exit, Exit::Code(255));
}

#[test]
fn the_host_is_welcomed() {
    let mut host = Host::connect();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert_eq!(host.welcome.kernel, kernel.trim());
    assert_eq!(host.welcome.agent, env!("CARGO_PKG_VERSION"));
    assert!(host.welcome.uptime > 0);
    assert_eq!(host.ask(&Request::Ping), Reply::Done);
}

#[test]
fn a_program_that_cannot_be_started_is_not() {
    let mut host = Host::connect();
    assert_eq!(kind(host.exec(program(&["no-such-program"]))), FailureKind::NotFound);
    assert_eq!(kind(host.exec(program(&["./no/such/program"]))), FailureKind::NotFound);
    assert_eq!(kind(host.exec(program(&[""]))), FailureKind::NotFound);
    assert_eq!(kind(host.exec(program(&[]))), FailureKind::NotFound);
    assert_eq!(kind(host.exec(program(&["/etc/passwd"]))), FailureKind::NotExecutable);
    assert_eq!(kind(host.exec(program(&["/etc"]))), FailureKind::NotExecutable);
    assert_eq!(kind(host.exec(program(&["echo", "a\0b"]))), FailureKind::Other);

    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("script");
    let write = |text: &str| {
        fs::write(&script, text).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        program(&[script.to_str().unwrap()])
    };
    assert_eq!(kind(host.exec(write("echo hi\n"))), FailureKind::NotExecutable);
    let failure = host.exec(write("#!/no/such/interpreter\n")).unwrap_err();
    assert_eq!(failure.kind, FailureKind::NotFound);
    assert!(failure.message.contains("interpreter"), "{failure}");
    assert_eq!(host.exec(write("#!/bin/sh\necho hi\n")).unwrap().text(), "hi\n");
}

#[test]
fn a_command_has_its_environment() {
    let mut host = Host::connect();
    let mut exec = sh("env; pwd");
    exec.env = vec![(b"NAME".to_vec(), b"a value".to_vec()), (b"NAME".to_vec(), b"last".to_vec())];
    exec.cwd = Some(b"/usr".to_vec());
    let text = host.exec(exec.clone()).unwrap().text().to_owned();
    let lines: Vec<_> = text.lines().collect();
    for line in ["NAME=last", "LANG=C.UTF-8", "USER=root", "LOGNAME=root", "/usr"] {
        assert!(lines.contains(&line), "{line} is not in {text}");
    }
    let path = lines.iter().find(|line| line.starts_with("PATH=")).unwrap();
    assert!(path.contains("/usr/local/sbin:"), "{path}");
    assert!(!text.contains("CARGO"), "the agent's own environment: {text}");

    // Where it is said where programs are, they are nowhere else.
    let mut elsewhere = exec.clone();
    elsewhere.env = vec![(b"PATH".to_vec(), b"/nowhere".to_vec())];
    elsewhere.program = Program::Arguments(vec![b"env".to_vec()]);
    assert_eq!(kind(host.exec(elsewhere)), FailureKind::NotFound);
    exec.env = vec![(b"A=B".to_vec(), b"C".to_vec())];
    assert_eq!(kind(host.exec(exec.clone())), FailureKind::Other);
    exec.cwd = Some(b"/no/such/directory".to_vec());
    exec.env.clear();
    assert_eq!(kind(host.exec(exec)), FailureKind::WorkingDirectory);
}

#[test]
fn a_command_inherits_nothing_that_it_should_not() {
    let mut host = Host::connect();
    // The listing itself has the directory open.
    assert_eq!(host.exec(program(&["ls", "/proc/self/fd"])).unwrap().text(), "0\n1\n2\n3\n");
    let status = host.exec(program(&["cat", "/proc/self/status"])).unwrap();
    for set in ["SigBlk", "SigIgn", "SigCgt"] {
        let line = format!("{set}:\t{:016x}", 0);
        assert!(status.text().contains(&line), "{line} is not in {status:?}");
    }
    let outcome = host.exec(program(&["cat", "/proc/self/stat"])).unwrap();
    let fields: Vec<_> = outcome.text().split(' ').collect();
    let process = outcome.process.to_string();
    assert_eq!((fields[0], fields[4], fields[5]), (&*process, &*process, &*process));
}

#[test]
fn a_command_runs_as_whom_it_should() {
    if !require_root() {
        return;
    }
    let mut host = Host::connect();
    let mut run = |user: &str, line: &str| {
        let mut exec = sh(line);
        exec.user = Some(user.to_owned());
        host.exec(exec)
    };
    let ids = "id -u; id -g; id -G; echo again > /dev/stdout";
    assert_eq!(run("12345:67", ids).unwrap().text(), "12345\n67\n67\nagain\n");
    assert_eq!(run("12345", "id -u; id -g; pwd").unwrap().text(), "12345\n0\n/\n");
    assert_eq!(run("daemon", "id -un; echo $USER").unwrap().text(), "daemon\ndaemon\n");
    assert_eq!(run("root", "id -u").unwrap().text(), "0\n");
    assert_eq!(kind(run("no-such-user", "true")), FailureKind::NoSuchUser);

    let mut exec = sh("true");
    exec.user = Some("12345".to_owned());
    let closed = tempfile::tempdir().unwrap();
    fs::set_permissions(closed.path(), fs::Permissions::from_mode(0o700)).unwrap();
    exec.cwd = Some(closed.path().to_str().unwrap().as_bytes().to_vec());
    assert_eq!(host.exec(exec).unwrap().exit, Exit::Code(0), "it is entered before");
}

#[test]
fn a_signal_ends_a_command_and_all_of_its_group() {
    let mut host = Host::connect();
    assert_eq!(host.sh("kill -9 $$").exit, Exit::Signal(SIGKILL));
    assert_eq!(host.sh("kill -13 $$").exit, Exit::Signal(13));
    for (end, exit) in
        [(Request::Signal(SIGTERM), Exit::Signal(SIGTERM)), (Request::Close, Exit::Signal(SIGKILL))]
    {
        let channel = host.open(&Request::Exec(sh("sleep 1000 & echo $!; wait")));
        let child = host.first_line(channel);
        assert!(is_running(&child));
        host.send(channel, &end);
        assert_eq!(host.outcome(channel).unwrap().exit, exit);
        eventually(|| !is_running(&child));
    }
}

#[test]
fn a_signal_that_a_command_handles_is_no_end() {
    let mut host = Host::connect();
    let line = "trap 'echo caught; exit 7' TERM; echo ready; while :; do sleep 0.01; done";
    let channel = host.open(&Request::Exec(sh(line)));
    assert_eq!(host.first_line(channel), "ready");
    // Neither does a signal that there is not.
    host.send(channel, &Request::Signal(0));
    host.send(channel, &Request::Signal(200));
    host.send(channel, &Request::Signal(SIGTERM));
    let outcome = host.outcome(channel).unwrap();
    assert_eq!((outcome.exit, outcome.stdout.as_slice()), (Exit::Code(7), b"caught\n".as_slice()));
}

#[test]
fn a_session_takes_its_commands_with_it() {
    let mut host = Host::connect();
    let channel = host.open(&Request::Exec(sh("sleep 1000 & echo $!; wait")));
    let child = host.first_line(channel);
    let other = host.open(&Request::Exec(sh("echo $$; exec sleep 1000")));
    let other = host.first_line(other);
    assert!(is_running(&child) && is_running(&other));
    drop(host.stream);
    assert!(host.agent.ended_well());
    eventually(|| !is_running(&child) && !is_running(&other));
}

#[test]
fn a_command_is_over_when_it_exits_and_not_when_its_pipes_close() {
    let mut host = Host::connect();
    let dir = tempfile::tempdir().unwrap();
    let (go, done) = (dir.path().join("go"), dir.path().join("done"));
    let show = |path: &Path| path.to_str().unwrap().to_owned();
    // What stays in the background writes more than any pipe holds, and must live to say so.
    let line = format!(
        "( while ! [ -e {} ]; do sleep 0.01; done; head -c 1000000 /dev/zero; echo $? > {} ) & echo hi",
        show(&go),
        show(&done)
    );
    assert_eq!(host.sh(&line).text(), "hi\n");
    fs::write(go, "").unwrap();
    eventually(|| fs::read_to_string(&done).is_ok_and(|code| code == "0\n"));
}

#[test]
fn two_hundred_commands_run_at_once() {
    let mut host = Host::connect();
    let dir = tempfile::tempdir().unwrap();
    let gate = dir.path().join("gate");
    let line = format!("while ! [ -e {} ]; do sleep 0.1; done; read x; echo $x", gate.display());
    let channels: Vec<_> = (0..200)
        .map(|_| {
            let mut exec = sh(&line);
            exec.stdin = true;
            host.open(&Request::Exec(exec))
        })
        .collect();
    for &channel in &channels {
        assert!(matches!(host.reply(channel), Reply::Started(_)));
    }
    fs::write(gate, "").unwrap();
    for &channel in &channels {
        host.send(channel, &Request::Data(format!("{channel}\n").into_bytes()));
    }
    for &channel in channels.iter().rev() {
        assert_eq!(host.outcome(channel).unwrap().text(), format!("{channel}\n"));
    }
}

#[test]
fn there_is_a_limit_to_what_is_done_at_once() {
    let mut host = Host::connect();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file").to_str().unwrap().as_bytes().to_vec();
    let channels: Vec<_> =
        (0..MAX_CHANNELS).map(|_| host.open(&Request::Put(path.clone()))).collect();
    match host.ask(&Request::Ping) {
        Reply::Failed(failure) => assert_eq!(failure.kind, FailureKind::Limit),
        other => panic!("{other:?}"),
    }
    for channel in channels {
        host.send(channel, &Request::Close);
        assert!(matches!(host.reply(channel), Reply::Failed(_)));
    }
    assert_eq!(host.ask(&Request::Ping), Reply::Done);
}

#[test]
fn a_channel_can_be_used_again() {
    let mut host = Host::connect();
    for _ in 0..3 {
        host.send(7, &Request::Exec(sh("echo hi")));
        assert_eq!(host.outcome(7).unwrap().text(), "hi\n");
        // What comes too late does no harm.
        host.send(7, &Request::Data(b"late".to_vec()));
        host.send(7, &Request::Credit(Stream::Stdout, 3));
        host.send(7, &Request::Signal(SIGKILL));
        host.send(7, &Request::Close);
    }
}
