//! The streams of commands: as much as both sides take, and no more is held than was agreed.

use smolvm_protocol::{Exit, Reply, Request, Stream, WINDOW};
use smolvm_testkit::content::noise;

use super::host::{Host, program, sh};

fn with_input(line: &str) -> Request {
    let mut exec = sh(line);
    exec.stdin = true;
    Request::Exec(exec)
}

#[test]
fn input_comes_out_as_it_went_in() {
    let mut host = Host::connect();
    let channel = host.open(&with_input("cat"));
    let sent = noise(1, 3 * 1024 * 1024);
    let received = host.pump(channel, &sent);
    assert!(received == sent, "{} bytes of {}", received.len(), sent.len());
}

#[test]
fn without_input_there_is_an_end_at_once() {
    let mut host = Host::connect();
    assert_eq!(host.exec(program(&["cat"])).unwrap().text(), "");
    let channel = host.open(&with_input("cat; echo end"));
    host.send(channel, &Request::End);
    assert_eq!(host.outcome(channel).unwrap().text(), "end\n");
}

#[test]
fn input_that_nobody_reads_is_dropped() {
    let mut host = Host::connect();
    // The first closes its input, the second never reads it, the third has none.
    for line in ["exec <&-; read x; sleep 0.2; echo $?", "sleep 0.2; echo 0"] {
        let channel = host.open(&with_input(line));
        host.pump(channel, &noise(2, 1024 * 1024));
    }
    let channel = host.open(&Request::Exec(sh("sleep 0.2")));
    host.pump(channel, &noise(2, 1024 * 1024));
}

#[test]
fn much_output_comes_whole_on_both_streams() {
    let mut host = Host::connect();
    let line = "head -c 10000000 /dev/zero | tr '\\0' a & head -c 3000000 /dev/zero >&2; wait";
    let outcome = host.sh(line);
    assert_eq!(outcome.exit, Exit::Code(0));
    assert_eq!(outcome.stdout.len(), 10_000_000);
    assert!(outcome.stdout.iter().all(|&byte| byte == b'a'));
    assert_eq!(outcome.stderr.len(), 3_000_000);
}

#[test]
fn output_that_the_host_does_not_take_waits_and_holds_up_nothing_else() {
    let mut host = Host::connect();
    // The last part is in the pipe when the command exits.
    let total = WINDOW + 50_000;
    let channel = host.open(&Request::Exec(sh(&format!("head -c {total} /dev/zero"))));
    let mut received = 0;
    assert!(matches!(host.reply(channel), Reply::Started(_)));
    while received < WINDOW {
        match host.reply(channel) {
            Reply::Data(Stream::Stdout, bytes) => received += u32::try_from(bytes.len()).unwrap(),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(received, WINDOW);
    // By now it has exited, and nothing of that channel has come.
    assert_eq!(host.sh("sleep 0.3; echo hi").text(), "hi\n");
    assert_eq!(host.waiting(channel), [Reply::End(Stream::Stderr)]);
    host.send(channel, &Request::Credit(Stream::Stdout, WINDOW));
    let outcome = host.outcome(channel).unwrap();
    assert_eq!((outcome.stdout.len(), outcome.exit), (50_000, Exit::Code(0)));
}

#[test]
fn a_command_that_nobody_waits_for_ends_without_its_output_being_taken() {
    let mut host = Host::connect();
    let channel = host.open(&Request::Exec(program(&["yes"])));
    let mut received = 0;
    while received < WINDOW {
        if let Reply::Data(_, bytes) = host.reply(channel) {
            received += u32::try_from(bytes.len()).unwrap();
        }
    }
    host.send(channel, &Request::Close);
    loop {
        match host.reply(channel) {
            Reply::Exited { exit, .. } => break assert_eq!(exit, Exit::Signal(9)),
            reply => assert!(!reply.is_final(), "{reply:?}"),
        }
    }
    assert_eq!(host.ask(&Request::Ping), Reply::Done);
}

#[test]
fn a_writer_whose_reader_is_gone_is_ended_as_usual() {
    let mut host = Host::connect();
    assert_eq!(host.sh("yes | head -n 1").text(), "y\n");
}
