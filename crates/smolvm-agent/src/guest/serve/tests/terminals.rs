//! Commands in terminals.

use smolvm_protocol::{Exec, Exit, Reply, Request, WindowSize};

use super::host::{Host, sh};

fn in_terminal(line: &str) -> Exec {
    let terminal = Some(WindowSize { rows: 24, columns: 80 });
    Exec { terminal, stdin: true, ..sh(line) }
}

#[test]
fn a_command_in_a_terminal_knows_it() {
    let mut host = Host::connect();
    let line = "test -t 0 && test -t 1 && test -t 2 && stty size && echo $TERM > /dev/tty";
    let outcome = host.exec(in_terminal(line)).unwrap();
    assert_eq!(outcome.text(), "24 80\r\nxterm\r\n");
    let outcome = host.exec(in_terminal("exit 4")).unwrap();
    assert_eq!(outcome.exit, Exit::Code(4));
}

#[test]
fn a_terminal_that_changes_its_size_says_so() {
    let mut host = Host::connect();
    let line = "trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.01; done";
    let channel = host.open(&Request::Exec(in_terminal(line)));
    assert_eq!(host.first_line(channel), "ready\r");
    host.send(channel, &Request::Resize(WindowSize { rows: 50, columns: 132 }));
    assert_eq!(host.outcome(channel).unwrap().text(), "50 132\r\n");
}

#[test]
fn the_end_of_input_ends_what_reads_a_terminal() {
    let mut host = Host::connect();
    for (input, output) in [("", "end\r\n"), ("a\n", "a\r\nend\r\n"), ("a", "aend\r\n")] {
        let channel = host.open(&Request::Exec(in_terminal("stty -echo; echo; cat; echo end")));
        assert_eq!(host.first_line(channel), "\r");
        host.send(channel, &Request::Data(input.as_bytes().to_vec()));
        host.send(channel, &Request::End);
        assert_eq!(host.outcome(channel).unwrap().text(), output, "after {input:?}");
    }
}

#[test]
fn control_c_interrupts() {
    let mut host = Host::connect();
    let channel = host.open(&Request::Exec(in_terminal("stty -echo; echo ready; exec sleep 1000")));
    assert_eq!(host.first_line(channel), "ready\r");
    host.send(channel, &Request::Data(vec![3]));
    assert_eq!(host.outcome(channel).unwrap().exit, Exit::Signal(2));
}

#[test]
fn all_that_was_written_to_a_terminal_comes() {
    let mut host = Host::connect();
    let channel = host.open(&Request::Exec(in_terminal("stty -opost; seq 100000")));
    let numbers: Vec<_> = (1..=100_000).map(|number| format!("{number}\n")).collect();
    let expected = numbers.concat();
    let outcome = host.outcome(channel).unwrap();
    assert!(outcome.text() == expected, "{} of {} bytes", outcome.stdout.len(), expected.len());
}

#[test]
fn what_stays_in_the_background_of_a_terminal_holds_up_nothing() {
    let mut host = Host::connect();
    let line = "trap '' HUP; sleep 1000 & echo $!";
    let channel = host.open(&Request::Exec(in_terminal(line)));
    let background = host.first_line(channel);
    assert_eq!(host.outcome(channel).unwrap().exit, Exit::Code(0));
    host.sh(&format!("kill -9 {}", background.trim()));
}

#[test]
fn a_terminal_is_closed_with_its_command() {
    let mut host = Host::connect();
    let channel = host.open(&Request::Exec(in_terminal("echo ready; sleep 1000")));
    assert_eq!(host.first_line(channel), "ready\r");
    host.send(channel, &Request::Close);
    assert_eq!(host.outcome(channel).unwrap().exit, Exit::Signal(9));
    assert_eq!(host.waiting(channel), []);
    assert_eq!(host.ask(&Request::Ping), Reply::Done);
}
