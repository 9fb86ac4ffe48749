//! Commands run as they would as children of a program of this machine.

use smolvm_protocol::{Exit, FailureKind, Reply, Request};

use super::host::{Host, program, sh};

#[test]
fn a_command_says_what_it_has_to_say_and_ends() {
    let mut host = Host::connect();
    let outcome = host.sh("echo out; echo err >&2; exit 3");
    assert_eq!(outcome.stdout, b"out\n");
    assert_eq!(outcome.stderr, b"err\n");
    assert_eq!(outcome.exit, Exit::Code(3));
    assert_eq!(host.exec(program(&["echo", "a b", ""])).unwrap().text(), "a b \n");
    assert_eq!(host.ask(&Request::Ping), Reply::Done);
    drop(host.stream);
    assert!(host.agent.ended_well());
}

#[test]
fn a_program_that_is_not_there_is_not_started() {
    let mut host = Host::connect();
    let kind = |result: Result<_, smolvm_protocol::Failure>| result.map(|_| ()).unwrap_err().kind;
    assert_eq!(kind(host.exec(program(&["no-such-program"]))), FailureKind::NotFound);
    assert_eq!(kind(host.exec(program(&["/etc/passwd"]))), FailureKind::NotExecutable);
    let mut exec = sh("true");
    exec.user = Some("no-such-user".to_owned());
    assert_eq!(kind(host.exec(exec)), FailureKind::NoSuchUser);
    let mut exec = sh("true");
    exec.cwd = Some(b"/no/such/directory".to_vec());
    assert_eq!(kind(host.exec(exec)), FailureKind::WorkingDirectory);
}
