//! A guest that says whatever it likes: nothing but its own session suffers from it.

use std::io::Write as _;
use std::thread;

use smolvm_protocol::{
    Frame, MAX_PAYLOAD, Preamble, Reply, Request, SESSION_CHANNEL, Side, Stream, WINDOW,
};
use smolvm_supervisor::control::{How, Report};
use smolvm_supervisor::state::Agent;
use smolvm_testkit::Numbers;

use crate::guest::{Guest, Vm, welcome};
use crate::rig::{Place, eventually};

/// Far less than any of these guests sends.
const MEMORY: u64 = 24 * 1024 * 1024;

/// The numbers of the kinds of replies on the wire.
mod kind {
    pub(super) const WELCOME: u8 = 128;
    pub(super) const DATA: u8 = 144;
    pub(super) const CREDIT: u8 = 146;
}

/// Something that no agent says on a channel that was opened by a command, and what is said of it.
type Misdeed = (&'static str, fn(&mut Guest, u32));

const MISDEEDS: &[Misdeed] = &[
    ("claims to have 4294967295 bytes", |guest, _| guest.say_bytes(&[255; 9])),
    ("unknown kind 7", |guest, channel| guest.say_frame(channel, 7, b"")),
    ("unknown kind 255", |guest, channel| guest.say_frame(channel, 255, b"")),
    ("no such stream", |guest, channel| guest.say_frame(channel, kind::DATA, b"\x09data")),
    ("ends early", |guest, channel| guest.say_frame(channel, kind::DATA, b"")),
    ("bytes too many", |guest, channel| guest.say_frame(channel, kind::CREDIT, b"12345")),
    ("standard input", |guest, channel| {
        guest.say(channel, &Reply::Data(Stream::Stdin, b"data".to_vec()));
    }),
    ("more was sent than there was credit", |guest, channel| {
        for _ in 0..5 {
            guest.say(channel, &Reply::Data(Stream::Stdout, vec![0; 60_000]));
        }
    }),
    ("more was sent than there was credit", |guest, channel| {
        guest.say(channel, &Reply::Credit(1));
    }),
    ("a stream ends twice", |guest, channel| {
        guest.say(channel, &Reply::End(Stream::Stderr));
        guest.say(channel, &Reply::End(Stream::Stderr));
    }),
    ("goes on after its end", |guest, channel| {
        guest.say(channel, &Reply::End(Stream::Stdout));
        guest.say(channel, &Reply::Data(Stream::Stdout, vec![1]));
    }),
    ("starts once", |guest, channel| {
        guest.say(channel, &Reply::Started(1));
        guest.say(channel, &Reply::Started(2));
    }),
    ("one welcome", |guest, channel| guest.say(channel, &Reply::Welcome(welcome()))),
    ("leads out of", |guest, channel| {
        // An entry (kind 147) named `../x`.
        guest.say_frame(channel, 147, b"\x04\0\0\0../x");
    }),
    ("nobody has asked", |guest, _| {
        let mut wire = Vec::new();
        for channel in 1_000_000..1_010_001 {
            Reply::Done.encode(channel, &mut wire);
        }
        guest.say_bytes(&wire);
    }),
];

#[test]
fn a_broken_protocol_ends_the_session_with_a_reason() {
    let place = Place::new();
    let mut vm = Vm::start(&place, "vm");
    for (reason, misdeed) in MISDEEDS {
        vm.guest.greet();
        let (mut client, mut idle) = (vm.client(), vm.client());
        client.exec(1, "cat");
        let (channel, _) = vm.guest.next();
        misdeed(&mut vm.guest, channel);

        let words = client.last_words();
        let told: Vec<_> = words.iter().map(|(channel, _)| *channel).collect();
        assert_eq!(told, [1, SESSION_CHANNEL], "{reason}");
        for (_, failure) in words.iter().chain(&idle.last_words()) {
            assert!(failure.message.starts_with("the guest's agent broke the protocol"));
            assert!(failure.message.contains(reason), "{reason}: {}", failure.message);
        }
        // Who comes later hears the same, and the VM goes on without its agent.
        match vm.visitor().welcome() {
            Reply::Failed(failure) => assert!(failure.message.contains(reason)),
            other => panic!("{other:?}"),
        }
        match vm.supervisor.state().agent {
            Agent::Lost(why) => assert!(why.contains(reason), "{why}"),
            other => panic!("{other:?}"),
        }
        assert_eq!(vm.end(), Report::Ended(How::Signal(9)));
        vm.launch();
    }
    vm.supervisor.delete();
}

/// What a guest begins with, and the reason that is told.
type Beginning = (&'static str, fn(&mut Guest));

#[test]
fn a_session_begins_with_a_welcome_of_this_version() {
    let place = Place::new();
    let mut vm = Vm::start(&place, "vm");
    let beginnings: [Beginning; 4] = [
        ("begin with a welcome", |guest| guest.say(SESSION_CHANNEL, &Reply::Done)),
        ("begin with a welcome", |guest| guest.say(1, &Reply::Welcome(welcome()))),
        ("ends early", |guest| guest.say_frame(SESSION_CHANNEL, kind::WELCOME, b"")),
        ("too long", |guest| {
            let mut long = welcome();
            long.kernel = "6".repeat(1000);
            guest.say(SESSION_CHANNEL, &Reply::Welcome(long));
        }),
    ];
    for (reason, begin) in beginnings {
        let mut client = vm.visitor();
        let preamble = vm.guest.preamble();
        vm.guest.say_bytes(&Preamble::new(Side::Guest, preamble.nonce).encode());
        begin(&mut vm.guest);
        match client.welcome() {
            Reply::Failed(failure) => assert!(failure.message.contains(reason), "{failure}"),
            other => panic!("{other:?}"),
        }
        vm.end();
        vm.launch();
    }
    let mut client = vm.visitor();
    let preamble = vm.guest.preamble();
    vm.guest
        .say_bytes(&Preamble { version: 0, ..Preamble::new(Side::Guest, preamble.nonce) }.encode());
    assert!(
        matches!(client.welcome(), Reply::Failed(failure) if failure.message.contains("version 0"))
    );
    vm.supervisor.delete();
}

#[test]
fn a_flood_before_the_answer_costs_no_memory() {
    let place = Place::new();
    let mut vm = Vm::start(&place, "vm");
    let preamble = vm.guest.preamble();
    let almost = Preamble::new(Side::Guest, [9; 16]).encode().repeat(2000);
    for _ in 0..1000 {
        vm.guest.say_bytes(&almost);
    }
    let peak = vm.supervisor.peak_memory();
    assert!(peak < MEMORY, "{peak} bytes");
    // And what is meant is still found behind it.
    vm.guest.say_bytes(&Preamble::new(Side::Guest, preamble.nonce).encode());
    vm.guest.say(SESSION_CHANNEL, &Reply::Welcome(welcome()));
    vm.client();
    vm.supervisor.delete();
}

/// The smallest frames cost the most memory for what they are counted as.
#[test]
fn a_flood_for_a_client_that_does_not_read_costs_bounded_memory() {
    let place = Place::new();
    let (mut vm, mut client) = Vm::with_client(&place, "vm");
    client.exec(1, "cat");
    let (channel, _) = vm.guest.next();
    let frames = |payload: &[u8], count| {
        let mut wire = Vec::new();
        Frame { channel, kind: kind::DATA, payload }.encode(&mut wire);
        wire.repeat(count)
    };
    let whole = WINDOW as usize;
    for stream in [1, 2] {
        vm.guest.say_bytes(&frames(&[stream, b'x'], whole));
    }
    // Frames that carry nothing are free, and there is no end to them.
    for _ in 0..100 {
        vm.guest.say_bytes(&frames(&[1], 50_000));
        let mut wire = Vec::new();
        Reply::Credit(0).encode(channel, &mut wire);
        vm.guest.say_bytes(&wire.repeat(10_000));
    }
    let peak = vm.supervisor.peak_memory();
    assert!(peak < MEMORY, "{peak} bytes");
    // One byte more is one too many.
    vm.guest.say_bytes(&frames(&[1, b'x'], 1));
    let count = std::iter::from_fn(|| client.next())
        .filter(|(_, reply)| matches!(reply, Reply::Data(..)))
        .count();
    assert_eq!(count, 2 * whole);
    vm.supervisor.delete();
}

/// A guest that reads nothing keeps its clients waiting, and nobody else.
#[test]
fn a_guest_that_does_not_read_costs_bounded_memory() {
    let place = Place::new();
    let (mut vm, client) = Vm::with_client(&place, "vm");
    let writers: Vec<_> = (0..8)
        .map(|_| {
            let mut client = vm.client();
            thread::spawn(move || {
                for channel in 1..100 {
                    let mut wire = Vec::new();
                    Request::Put(vec![b'p'; 4000]).encode(channel, &mut wire);
                    for _ in 0..4 {
                        Request::Data(vec![0; MAX_PAYLOAD - 1]).encode(channel, &mut wire);
                    }
                    // The VM ends while most of it has not been taken.
                    if client.socket.write_all(&wire).is_err() {
                        return;
                    }
                }
            })
        })
        .collect();
    // Stalled: nothing moves any more between two looks.
    let moved = || {
        let io = fs_err::read_to_string(format!("/proc/{}/io", vm.supervisor.child.id())).unwrap();
        io.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().to_owned()
    };
    let mut last = String::new();
    eventually("the clients wait", || {
        thread::sleep(std::time::Duration::from_millis(200));
        let now = moved();
        std::mem::replace(&mut last, now.clone()) == now
    });
    let peak = vm.supervisor.peak_memory();
    assert!(peak < MEMORY, "{peak} bytes");
    drop(client);
    assert_eq!(vm.end(), Report::Ended(How::Signal(9)));
    for writer in writers {
        writer.join().unwrap();
    }
    vm.supervisor.delete();
}

/// Streams that are almost right: the client gets its last words, whatever they are, and the
/// supervisor goes on.
#[test]
fn no_stream_stops_the_supervisor() {
    let place = Place::new();
    let mut numbers = Numbers::of_this_run();
    let mut vm = Vm::start(&place, "vm");
    for _ in 0..150 {
        vm.guest.greet();
        let mut client = vm.client();
        let channels: Vec<_> = (1..4)
            .map(|channel| {
                client.exec(channel, "cat");
                vm.guest.next().0
            })
            .collect();
        let mut wire = Vec::new();
        for _ in 0..numbers.below(40) {
            let channel = channels[usize::try_from(numbers.below(3)).unwrap()];
            reply(&mut numbers).encode(channel, &mut wire);
        }
        for _ in 0..numbers.below(8) {
            if !wire.is_empty() {
                let at = usize::try_from(numbers.below(wire.len() as u64)).unwrap();
                wire[at] = u8::try_from(numbers.below(256)).unwrap();
            }
        }
        vm.guest.say_bytes(&wire);
        assert_eq!(vm.end(), Report::Ended(How::Signal(9)));
        while client.next().is_some() {}
        vm.launch();
    }
    let peak = vm.supervisor.peak_memory();
    assert!(peak < MEMORY, "{peak} bytes");
    vm.supervisor.delete();
}

fn reply(numbers: &mut Numbers) -> Reply {
    let length = usize::try_from(numbers.below(3000)).unwrap();
    match numbers.below(7) {
        0 => Reply::Started(4711),
        1 => Reply::End(Stream::Stdout),
        2 => Reply::Credit(1000),
        3 => Reply::Done,
        4 => Reply::Data(Stream::Stderr, vec![b'e'; length]),
        _ => Reply::Data(Stream::Stdout, vec![b'o'; length]),
    }
}
