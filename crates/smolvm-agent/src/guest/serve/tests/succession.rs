//! A guest that goes on from a snapshot, where another host speaks than before.

use std::io::Write as _;

use smolvm_protocol::{Reply, Request, Succession};

use super::host::{Host, NONCE, eventually, is_running, sh};

#[test]
fn another_host_takes_over_in_the_midst_of_a_frame_and_what_the_first_one_ran_ends() {
    let mut host = Host::connect();
    let temp = tempfile::tempdir().unwrap();
    let marker = temp.path().join("done");
    let sleeper = host.open(&Request::Exec(sh("echo $$; exec sleep 1000")));
    let process = host.first_line(sleeper);

    // Half of a command, which must not be run.
    let mut frame = Vec::new();
    let half = sh(&format!("echo half > {}", marker.display()));
    Request::Exec(half).encode(90, &mut frame);
    let Host { mut stream, agent, .. } = host;
    stream.write_all(&frame[..frame.len() / 2]).unwrap();
    stream.write_all(&Succession { nonce: [9; 16] }.encode()).unwrap();
    stream.write_all(&Succession { nonce: NONCE }.encode()).unwrap();

    let mut next = Host::greet_with(agent, stream, *b"another nonce...");
    assert_eq!(next.ask(&Request::Reseed(vec![7; 64])), Reply::Done);
    assert_eq!(next.sh("echo served").text(), "served\n");
    assert!(!marker.exists());
    eventually(|| !is_running(&process));
}
