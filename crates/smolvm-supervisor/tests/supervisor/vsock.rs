//! A guest that is reached over its vsock, by the socket of a VMM that leads there.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};

use smolvm_protocol::{Reply, Request, VSOCK_PORT};
use smolvm_supervisor::control::Program;
use smolvm_supervisor::state::Agent;

use crate::client::Client;
use crate::guest::{Guest, welcome};
use crate::rig::{Place, TIMEOUT, eventually};

/// The next attempt to reach the guest, which has said the port.
fn attempt(vmm: &UnixListener) -> UnixStream {
    let (mut stream, _) = vmm.accept().unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let wanted = format!("CONNECT {VSOCK_PORT}\n");
    let mut said = vec![0; wanted.len()];
    stream.read_exact(&mut said).unwrap();
    assert_eq!(said, wanted.as_bytes());
    stream
}

#[test]
fn a_guest_is_reached_over_vsock_once_its_agent_listens() {
    let place = Place::new();
    let mut supervisor = place.make("vm", "owned", Vec::new());
    let socket = place.path().join("vsock.sock");
    let sleep = ["sh", "-c", "ls /proc/self/fd; exec sleep 1000"];
    supervisor.launch(vec![Program::vmm_with_vsock(sleep, socket.clone())]);
    let mut client = Client::connect(&supervisor.runtime.join("agent.sock"));

    // The VMM does not listen before it has a machine; then nobody in the guest does.
    let vmm = UnixListener::bind(&socket).unwrap();
    drop(attempt(&vmm));
    attempt(&vmm).write_all(b"NO 1\n").unwrap();
    attempt(&vmm).write_all(&[b'O'; 100]).unwrap();
    assert_eq!(supervisor.state().agent, Agent::Awaited);

    let mut stream = attempt(&vmm);
    for part in ["OK 10737", "41825\n"] {
        stream.write_all(part.as_bytes()).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let mut guest = Guest::at(stream);
    guest.greet();
    assert_eq!(client.welcome(), Reply::Welcome(welcome()));
    client.say(1, &Request::Ping);
    let (channel, request) = guest.next();
    assert_eq!(request, Request::Ping);
    guest.say(channel, &Reply::Done);
    assert_eq!(client.next(), Some((1, Reply::Done)));

    // It gets no descriptor for the agent.
    let console = supervisor.console();
    let numbers: Vec<_> = console.lines().collect();
    assert!(!numbers.contains(&"9"), "{console}");

    // A snapshot ends every connection; it is reached once more.
    let paused = supervisor.state.join("paused");
    fs_err::write(&paused, "somebody").unwrap();
    let before = supervisor.state().session;
    drop(guest);
    let (_, last) = client.next().unwrap();
    assert!(matches!(last, Reply::Failed(_)), "{last:?}");
    let mut stream = attempt(&vmm);
    stream.write_all(b"OK 1\n").unwrap();
    let mut guest = Guest::at(stream);
    guest.greet();
    let mut client = Client::connect(&supervisor.runtime.join("agent.sock"));
    assert_eq!(client.welcome(), Reply::Welcome(welcome()));
    eventually("there is another session", || {
        let session = supervisor.state().session;
        session.is_some() && session != before
    });
    fs_err::write(&paused, "").unwrap();

    // Else it is not dialled again: the guest might be another one.
    drop(guest);
    eventually("the state says so", || matches!(supervisor.state().agent, Agent::Lost(_)));
    vmm.set_nonblocking(true).unwrap();
    assert!(vmm.accept().is_err());
    supervisor.delete();
}
