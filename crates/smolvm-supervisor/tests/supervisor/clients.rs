//! Many clients on one channel to the guest.

use std::io::Write as _;
use std::net::Shutdown;
use std::thread;

use smolvm_protocol::{
    Exit, FailureKind, MAX_CHANNELS, Preamble, Program, Reply, Request, SESSION_CHANNEL, Side,
    Stream, WINDOW,
};
use smolvm_supervisor::control::{How, Report};
use smolvm_supervisor::state::Agent;

use crate::client::Client;
use crate::guest::{Vm, welcome};
use crate::rig::{Place, eventually};

const WHOLE: usize = WINDOW as usize;

fn exited(code: u8) -> Reply {
    Reply::Exited { exit: Exit::Code(code), nanos: 1 }
}

fn command(request: Request) -> Vec<u8> {
    match request {
        Request::Exec(exec) => match exec.program {
            Program::Shell(line) => line,
            Program::Arguments(_) => panic!("arguments"),
        },
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_client_waits_until_the_guest_is_there() {
    let place = Place::new();
    let mut vm = Vm::start(&place, "vm");
    let mut client = vm.visitor();
    // What an earlier session has left in the channel is nobody's answer.
    vm.guest.say_bytes(b"half a frame");
    vm.guest.say_bytes(&Preamble::new(Side::Guest, [1; 16]).encode());
    vm.guest.say(1, &Reply::Done);
    assert_eq!(vm.supervisor.state().agent, Agent::Awaited);
    vm.guest.greet();
    assert_eq!(client.welcome(), Reply::Welcome(welcome()));
    eventually("the state says so", || vm.supervisor.state().agent == Agent::Ready);
    vm.supervisor.delete();
}

#[test]
fn each_client_gets_its_own_answers() {
    const CLIENTS: u32 = 40;
    const COMMANDS: u32 = 20;
    let place = Place::new();
    let (mut vm, _first) = Vm::with_client(&place, "vm");
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let mut client = vm.client();
            thread::spawn(move || {
                for channel in 1..=COMMANDS {
                    client.exec(channel, &format!("{number}/{channel}"));
                }
                // Answers come in any order, those on one channel in theirs.
                let mut said = vec![Vec::new(); COMMANDS as usize + 1];
                let mut ended = 0;
                while ended < COMMANDS {
                    let (channel, reply) = client.next().unwrap();
                    match reply {
                        Reply::Started(_) => {}
                        Reply::Data(Stream::Stdout, data) => {
                            said[channel as usize].extend(data);
                        }
                        Reply::Exited { .. } => {
                            ended += 1;
                            let said = String::from_utf8(said[channel as usize].clone()).unwrap();
                            assert_eq!(said, format!("{number}/{channel}, {number}/{channel}"));
                        }
                        other => panic!("{other:?}"),
                    }
                }
            })
        })
        .collect();
    let mut open = Vec::new();
    for count in 0..CLIENTS * COMMANDS {
        let (channel, request) = vm.guest.next();
        open.push((channel, command(request)));
        vm.guest.say(channel, &Reply::Started(count));
        // Some answers come at once, others much later.
        if count % 3 == 0 {
            for (channel, line) in open.drain(..) {
                answer(&mut vm, channel, &line);
            }
        }
    }
    for (channel, line) in open {
        answer(&mut vm, channel, &line);
    }
    for client in clients {
        client.join().unwrap();
    }
    vm.supervisor.delete();
}

fn answer(vm: &mut Vm, channel: u32, line: &[u8]) {
    vm.guest.say(channel, &Reply::Data(Stream::Stdout, line.to_vec()));
    vm.guest.say(channel, &Reply::Data(Stream::Stdout, [b", ", line].concat()));
    vm.guest.say(channel, &exited(0));
}

/// Behaviour 47: output of any size arrives whole, at the pace of who reads it.
#[test]
fn much_output_arrives_whole() {
    const TOTAL: usize = 32 * 1024 * 1024;
    let place = Place::new();
    let (mut vm, mut client) = Vm::with_client(&place, "vm");
    let content = smolvm_testkit::content::noise(1, TOTAL);
    client.exec(5, "cat");
    let (channel, _) = vm.guest.next();
    let expected = content.clone();
    let guest = thread::spawn(move || {
        let mut window = WHOLE;
        for part in content.chunks(60_000) {
            while window < part.len() {
                match vm.guest.next() {
                    (_, Request::Credit(Stream::Stdout, bytes)) => window += bytes as usize,
                    other => panic!("{other:?}"),
                }
            }
            window -= part.len();
            vm.guest.say(channel, &Reply::Data(Stream::Stdout, part.to_vec()));
        }
        vm.guest.say(channel, &exited(0));
        vm
    });
    let mut received = Vec::new();
    loop {
        match client.next().unwrap() {
            (5, Reply::Data(Stream::Stdout, data)) => {
                let count = u32::try_from(data.len()).unwrap();
                received.extend(data);
                client.say(5, &Request::Credit(Stream::Stdout, count));
            }
            (5, Reply::Exited { .. }) => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(received == expected);
    let mut vm = guest.join().unwrap();
    let peak = vm.supervisor.peak_memory();
    assert!(peak < 16 * 1024 * 1024, "{peak} bytes of memory for a stream");
    vm.supervisor.delete();
}

#[test]
fn a_client_that_does_not_read_keeps_nobody_waiting() {
    let place = Place::new();
    let (mut vm, mut slow) = Vm::with_client(&place, "vm");
    let mut quick = vm.client();
    slow.exec(1, "yes");
    let (flooded, _) = vm.guest.next();
    // More than the socket holds, and no more than the guest may send.
    for _ in 0..8 {
        for stream in [Stream::Stdout, Stream::Stderr] {
            vm.guest.say(flooded, &Reply::Data(stream, vec![b'y'; WHOLE / 8]));
        }
    }
    for turn in 1..100 {
        quick.exec(turn, "true");
        let (channel, _) = vm.guest.next();
        vm.guest.say(channel, &exited(0));
        assert_eq!(quick.next(), Some((turn, exited(0))));
    }
    // Nothing of what the slow one has not read is lost.
    vm.guest.say(flooded, &exited(9));
    let mut count = 0;
    while let Some((1, Reply::Data(_, data))) = slow.next() {
        count += data.len();
    }
    assert_eq!(count, 2 * WHOLE);
    vm.supervisor.delete();
}

#[test]
fn what_a_client_wanted_ends_when_it_is_gone() {
    let place = Place::new();
    let (mut vm, client) = Vm::with_client(&place, "vm");
    let mut other = vm.client();
    let mut client = client;
    client.exec(1, "yes");
    client.exec(2, "sleep 1000");
    let channels = [vm.guest.next().0, vm.guest.next().0];
    vm.guest.say(channels[0], &Reply::Data(Stream::Stdout, vec![0; WHOLE / 8]));
    // Else it might leave before the guest has said that.
    assert!(matches!(client.next(), Some((1, Reply::Data(..)))));
    drop(client);

    let mut closed = Vec::new();
    let mut credit = 0;
    while closed.len() < 2 {
        match vm.guest.next() {
            (channel, Request::Close) => closed.push(channel),
            (channel, Request::Credit(Stream::Stdout, bytes)) => {
                assert_eq!(channel, channels[0]);
                credit += bytes;
            }
            other => panic!("{other:?}"),
        }
    }
    closed.sort_unstable();
    assert_eq!(closed, channels);
    assert_eq!(credit, WINDOW / 8);

    // The guest may go on until it has noticed, and is given credit as if somebody read.
    let mut sent = 0;
    while sent < 4 * WHOLE {
        for _ in 0..2 {
            vm.guest.say(channels[0], &Reply::Data(Stream::Stdout, vec![0; WHOLE / 8]));
        }
        sent += WHOLE / 4;
        let granted = Request::Credit(Stream::Stdout, WINDOW / 4);
        assert_eq!(vm.guest.next(), (channels[0], granted));
    }
    for channel in channels {
        vm.guest.say(channel, &exited(137));
    }
    // Nobody else has heard any of that, and the channels are free again.
    other.exec(1, "true");
    let (channel, _) = vm.guest.next();
    vm.guest.say(channel, &exited(0));
    assert_eq!(other.next(), Some((1, exited(0))));
    vm.supervisor.delete();
}

#[test]
fn there_are_so_many_channels_and_no_more() {
    let place = Place::new();
    let (mut vm, mut client) = Vm::with_client(&place, "vm");
    let last = u32::try_from(MAX_CHANNELS).unwrap() + 1;
    for channel in 1..=last {
        client.say(channel, &Request::Ping);
    }
    let (channel, reply) = client.next().unwrap();
    assert_eq!(channel, last);
    assert!(matches!(reply, Reply::Failed(failure) if failure.kind == FailureKind::Limit));
    // One that ends makes room for another.
    let (channel, _) = vm.guest.next();
    vm.guest.say(channel, &Reply::Done);
    assert_eq!(client.next(), Some((1, Reply::Done)));
    client.say(last, &Request::Settle);
    while vm.guest.next().1 != Request::Settle {}
    vm.supervisor.delete();
}

#[test]
fn more_clients_than_are_served_wait_for_their_turn() {
    let place = Place::new();
    let (mut vm, first) = Vm::with_client(&place, "vm");
    let mut others: Vec<_> = (0..63).map(|_| vm.client()).collect();
    let mut late = vm.visitor();
    others[0].say(1, &Request::Ping);
    assert_eq!(vm.guest.next().1, Request::Ping);
    drop(first);
    assert_eq!(late.welcome(), Reply::Welcome(welcome()));
    vm.supervisor.delete();
}

#[test]
fn a_client_that_breaks_the_protocol_loses_its_own_session_only() {
    let place = Place::new();
    let (mut vm, mut good) = Vm::with_client(&place, "vm");
    good.say(1, &Request::Settle);
    let (settling, _) = vm.guest.next();
    let encoded = |channel, request: &Request| {
        let mut wire = Vec::new();
        request.encode(channel, &mut wire);
        wire
    };
    let too_long = [&u32::MAX.to_le_bytes()[..], &[0; 5]].concat();
    let overrun: Vec<u8> =
        (0..9).flat_map(|_| encoded(1, &Request::Data(vec![0; WHOLE / 8]))).collect();
    let put = encoded(1, &Request::Put(b"/tmp/x".to_vec()));
    for (wire, reason) in [
        (too_long, "claims to have"),
        (vec![0, 0, 0, 0, 1, 0, 0, 0, 99], "unknown kind 99"),
        (vec![1, 0, 0, 0, 1, 0, 0, 0, 1, 7], "malformed"),
        (encoded(SESSION_CHANNEL, &Request::Ping), "the channel 0 is in use"),
        ([encoded(1, &Request::Ping), encoded(1, &Request::Ping)].concat(), "1 is in use"),
        ([put.clone(), overrun].concat(), "more was sent"),
        ([put, encoded(1, &Request::Credit(Stream::Stdout, 1))].concat(), "more was sent"),
    ] {
        let mut bad = vm.client();
        // Where all of it is not read any more, the end of the session is the answer.
        let _ = bad.socket.write_all(&wire);
        let words = bad.last_words();
        let (channel, failure) = words.last().expect("there is a reason");
        assert_eq!(*channel, SESSION_CHANNEL);
        assert!(failure.message.contains(reason), "{}", failure.message);
    }
    vm.guest.say(settling, &Reply::Done);
    assert_eq!(good.next(), Some((1, Reply::Done)));
    vm.supervisor.delete();
}

/// What is said on a channel while its last reply is under way is no mistake.
#[test]
fn late_requests_are_dropped() {
    let place = Place::new();
    let (mut vm, mut client) = Vm::with_client(&place, "vm");
    client.exec(1, "true");
    let (channel, _) = vm.guest.next();
    vm.guest.say(channel, &exited(0));
    assert_eq!(client.next(), Some((1, exited(0))));
    for late in [Request::Close, Request::Data(vec![1]), Request::Credit(Stream::Stdout, 9)] {
        client.say(1, &late);
    }
    client.say(1, &Request::Ping);
    assert_eq!(vm.guest.next().1, Request::Ping);
    vm.supervisor.delete();
}

#[test]
fn clients_learn_of_the_end_of_the_vm() {
    let place = Place::new();
    let (mut vm, mut client) = Vm::with_client(&place, "vm");
    let waiting = vm.visitor();
    waiting.socket.shutdown(Shutdown::Write).unwrap();
    client.exec(3, "true");
    let (channel, _) = vm.guest.next();
    vm.guest.say(channel, &Reply::Started(1));
    assert_eq!(client.next(), Some((3, Reply::Started(1))));
    assert_eq!(vm.end(), Report::Ended(How::Signal(9)));
    for (channel, failure) in client.last_words() {
        assert!([3, SESSION_CHANNEL].contains(&channel));
        assert!(failure.message.contains("channel"), "{}", failure.message);
    }
    assert!(!vm.supervisor.runtime.join("agent.sock").exists());

    // The next start has a session of its own.
    vm.launch();
    vm.guest.greet();
    let mut client: Client = vm.client();
    client.say(1, &Request::Ping);
    assert_eq!(vm.guest.next().1, Request::Ping);
    vm.supervisor.delete();
}
