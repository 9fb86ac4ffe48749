//! Hosts that break the protocol, or say what makes no sense.

use std::io::{Read as _, Write as _};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::path::Path;

use smolvm_protocol::{
    Entry, EntryKind, EntryPath, Frame, MAX_PAYLOAD, Network, PowerOff, Preamble, Request, Side,
    Stream, WINDOW, WindowSize,
};
use smolvm_testkit::{Numbers, skip};

use super::confinement;
use super::host::{Agent, Host, program, sh};

/// Sends a preamble and these bytes, and waits for the end of the agent.
fn say_to(agent: &Agent, mut stream: UnixStream, wire: &[u8]) {
    let mut reader = stream.try_clone().unwrap();
    // What the agent says is taken, or it would be right not to take anything either.
    let reading = std::thread::spawn(move || {
        let mut taken = Vec::new();
        let _ = reader.read_to_end(&mut taken);
    });
    let preamble = Preamble::new(Side::Host, [7; 16]).encode();
    // The agent may end the session at any byte of this.
    let _ = stream.write_all(&preamble).and_then(|()| stream.write_all(wire));
    let _ = stream.shutdown(std::net::Shutdown::Write);
    reading.join().unwrap();
    drop(stream);
    assert!(agent.ended_well());
}

fn frame(channel: u32, kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut wire = Vec::new();
    Frame { channel, kind, payload }.encode(&mut wire);
    wire
}

fn requests(requests: &[(u32, Request)]) -> Vec<u8> {
    let mut wire = Vec::new();
    for (channel, request) in requests {
        request.encode(*channel, &mut wire);
    }
    wire
}

#[test]
fn what_breaks_the_protocol_ends_the_session() {
    let mut sleep = program(&["sleep", "1000"]);
    sleep.stdin = true;
    let sleep = Request::Exec(sleep);
    let data = |length: u32| Request::Data(vec![0; length as usize]);
    // More than the window and a pipe.
    let full = (0..2 * WINDOW / 32768).map(|_| (1, data(32768)));
    for wire in [
        frame(1, 99, b""),
        frame(1, 1, b"no command"),
        frame(1, 9, b"too much"),
        [&u32::MAX.to_le_bytes()[..], &[0; 5]].concat(),
        requests(&[(0, Request::Ping)]),
        requests(&[(1, sleep.clone()), (1, sleep.clone())]),
        requests(&[(1, sleep.clone()), (1, Request::Credit(Stream::Stdout, 1))]),
        requests(&[(1, sleep.clone()), (1, Request::Credit(Stream::Stdin, 1))]),
        requests(&[(1, sleep.clone()), (1, Request::End), (1, data(1))]),
        requests(&[[(1, sleep.clone())].into(), full.collect(), vec![(1, data(1))]].concat()),
        requests(&[(1, Request::Put(b"/tmp".to_vec())), (1, Request::Signal(9))]),
    ] {
        let mut host = Host::connect();
        // The agent may end the session at any byte of this.
        let _ = host.stream.write_all(&wire);
        host.read_to_end();
        assert!(host.agent.ended_well());
    }
}

#[test]
fn a_preamble_is_found_in_whatever_came_before() {
    let (agent, mut stream) = Agent::start();
    stream.write_all(&vec![b'S'; 100_000]).unwrap();
    stream.write_all(b"SMOLVM-HOST").unwrap();
    let mut host = Host::greet(agent, stream);
    assert_eq!(host.sh("echo hi").text(), "hi\n");
}

#[test]
fn a_host_that_asks_and_never_reads_is_not_listened_to() {
    let host = Host::connect();
    let ping = requests(&[(1, Request::Ping)]).repeat(1000);
    host.stream.set_nonblocking(true).unwrap();
    let mut sent = 0;
    // By then a wrong agent would hold all of these answers.
    let limit = 64 * 1024 * 1024;
    let mut idle = 0;
    while sent < limit && idle < 50 {
        if let Ok(count) = (&host.stream).write(&ping) {
            (sent, idle) = (sent + count, 0);
        } else {
            idle += 1;
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
    assert!(sent < limit, "all was taken");
    drop(host.stream);
    assert!(host.agent.ended_well());
}

/// Something of each kind, as a host could say it.
fn conversation() -> Vec<(u32, Request)> {
    let mut input = sh("cat");
    input.stdin = true;
    let mut terminal = program(&["cat"]);
    terminal.stdin = true;
    terminal.terminal = Some(WindowSize { rows: 24, columns: 80 });
    let mut other = program(&["true"]);
    other.user = Some("1:1".to_owned());
    other.cwd = Some(b"/dir".to_vec());
    other.env = vec![(b"NAME".to_vec(), b"value".to_vec())];
    let entry = |path: &str, kind| Entry {
        path: EntryPath::parse(path.as_bytes()).unwrap(),
        kind,
        mode: 0o755,
        modified: 1,
    };
    let network = Network {
        address: Ipv4Addr::new(10, 0, 2, 15).into(),
        prefix: 24,
        gateway: Some(Ipv4Addr::new(10, 0, 2, 2).into()),
        name_servers: vec![Ipv4Addr::new(10, 0, 2, 3).into()],
        mtu: Some(1500),
        host_name: "vm".to_owned(),
    };
    vec![
        (1, Request::Exec(input)),
        (2, Request::Exec(terminal)),
        (3, Request::Exec(other)),
        (4, Request::Put(b"/dir/copy".to_vec())),
        (1, Request::Data(b"hello".to_vec())),
        (2, Request::Data(b"hello\n".to_vec())),
        (4, Request::Entry(entry("", EntryKind::Directory))),
        (4, Request::Entry(entry("file", EntryKind::File(5)))),
        (4, Request::Data(b"hello".to_vec())),
        (4, Request::Entry(entry("link", EntryKind::Symlink(b"file".to_vec())))),
        (2, Request::Resize(WindowSize { rows: 2, columns: 2 })),
        (4, Request::End),
        (5, Request::Get(b"/dir".to_vec())),
        (6, Request::Connect(9)),
        (6, Request::Data(b"hello".to_vec())),
        (7, Request::SetTime(1)),
        (8, Request::SetNetwork(network)),
        (9, Request::Settle),
        (10, Request::PowerOff(PowerOff::Now)),
        (1, Request::Signal(1)),
        (1, Request::End),
        (2, Request::End),
        (5, Request::Close),
        (6, Request::Close),
    ]
}

#[test]
fn nothing_that_a_host_says_brings_the_agent_down() {
    const ROUNDS: usize = 300;
    let busybox = Path::new("/bin/busybox");
    let dir = tempfile::tempdir().unwrap();
    if !confinement::is_possible() || !busybox.exists() {
        return skip("only root can confine an agent to a directory, which needs a busybox");
    }
    confinement::prepare(dir.path(), busybox);
    let mut numbers = Numbers::of_this_run();
    let good = requests(&conversation());
    for _ in 0..ROUNDS {
        let mut wire = good.clone();
        for _ in 0..=numbers.below(8) {
            let length = wire.len() as u64;
            let at = usize::try_from(numbers.below(length)).unwrap();
            match numbers.below(4) {
                0 => wire[at] = u8::try_from(numbers.below(256)).unwrap(),
                1 => wire[at] ^= 1 << numbers.below(8),
                2 => wire.truncate(at.max(1)),
                _ => {
                    let end = (at + MAX_PAYLOAD).min(wire.len());
                    let part = wire[at..end].to_vec();
                    wire.splice(at..at, part);
                }
            }
        }
        let (agent, stream) = Agent::start_after(|| confinement::enter(dir.path()));
        say_to(&agent, stream, &wire);
    }
}
