//! The memory that floods take of the host.

use std::io::Write as _;
use std::path::Path;
use std::process::Command as Program;
use std::time::Duration;

use smolvm_protocol::{
    Entry, EntryKind, EntryPath, Failure, FailureKind, HEADER, Reply, Request, Stream, WINDOW,
};

use super::guest::{Guest, Line};
use crate::session::{Command, CopyLimits, SessionError};

/// Set in a process that is flooded alone.
const ALONE: &str = "SMOLVM_TEST_FLOODED";

/// How much more a flooded process may take: the output that it was asked to keep, and room for
/// what allocators round up.
const MORE_KIB: u64 = 24 * 1024;

/// Behaviour 47: never host memory without bound.
#[test]
fn a_flood_takes_no_memory() {
    if std::env::var_os(ALONE).is_some() {
        return flooded();
    }
    let output = Program::new(std::env::current_exe().unwrap())
        .args(["--exact", "session::tests::flood::a_flood_takes_no_memory", "--nocapture"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    println!("{said}");
}

fn flooded() {
    let floods: [(&str, fn()); 6] = [
        ("noise instead of a preamble", noise),
        ("output", output),
        ("output, byte by byte, that nobody reads", drops),
        ("output without anything in it", nothing),
        ("a directory without end", directory),
        ("long failures", failures),
    ];
    let before = peak_kib();
    for (name, flood) in floods {
        flood();
        let more = peak_kib() - before;
        println!("{name}: {more} KiB more at most");
        assert!(more < MORE_KIB, "{name}: {more} KiB more");
    }
}

/// The most memory that this process has had so far.
fn peak_kib() -> u64 {
    let status = fs_err::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().trim_end_matches(" kB").parse().unwrap()
}

fn noise() {
    let guest = Guest::rude(|mut stream| while stream.write_all(&vec![b'S'; 65536]).is_ok() {});
    let error = guest.connect(Duration::from_secs(2)).unwrap_err();
    assert!(matches!(error, SessionError::NotReady { .. }), "{error}");
}

/// Waits for credit, until there is this much.
fn wait_for_credit(line: &mut Line, credit: &mut u32, wanted: u32) -> bool {
    while *credit < wanted {
        match line.next() {
            Some((_, Request::Credit(_, granted))) => *credit += granted,
            Some(_) => {}
            None => return false,
        }
    }
    true
}

fn output() {
    let guest = Guest::start(|mut line| {
        let channel = line.opener().unwrap();
        let mut credit = WINDOW;
        while wait_for_credit(&mut line, &mut credit, 32768) {
            line.say(channel, &Reply::Data(Stream::Stdout, vec![b'x'; 32768]));
            credit -= 32768;
        }
    });
    let command = Command::shell("yes").max_output(8 << 20);
    let error = guest.session().run(&command).unwrap_err();
    assert!(matches!(error, SessionError::OutputTooLarge { .. }), "{error}");
}

fn drops() {
    let guest = Guest::answering(|line, channel, _| {
        line.say(channel, &Reply::Started(7));
        for stream in [Stream::Stdout, Stream::Stderr] {
            for _ in 0..WINDOW / 1024 {
                let mut frames = Vec::new();
                for _ in 0..1024 {
                    Reply::Data(stream, vec![b'x']).encode(channel, &mut frames);
                }
                line.raw(&frames);
            }
        }
    });
    let session = guest.session();
    let spawn = || session.spawn(&Command::shell("yes")).unwrap();
    // The last has been started when all the others have sent what they can.
    let unread: Vec<_> = (0..4).map(|_| spawn()).collect();
    assert!(session.is_open());
    drop(unread);
}

fn nothing() {
    let guest = Guest::start(|mut line| {
        let channel = line.opener().unwrap();
        let mut frames = Vec::new();
        for _ in 0..1000 {
            Reply::Data(Stream::Stdout, Vec::new()).encode(channel, &mut frames);
        }
        while line.raw(&frames) {}
    });
    let command = Command::shell("yes").timeout(Duration::from_secs(1));
    let error = guest.session().run(&command).unwrap_err();
    assert!(matches!(error, SessionError::CommandTimeout { .. }), "{error}");
}

fn directory() {
    let guest = Guest::start(|mut line| {
        let channel = line.opener().unwrap();
        let say = |line: &mut Line, path: &[u8], kind| {
            let path = EntryPath::parse(path).unwrap();
            let mut frame = Vec::new();
            let entry = Entry { path, kind, mode: 0o777, modified: 0 };
            Reply::Entry(entry).encode(channel, &mut frame);
            line.raw(&frame);
            u32::try_from(frame.len() - HEADER).unwrap()
        };
        let mut credit = WINDOW - say(&mut line, b"", EntryKind::Directory);
        let mut number = 0;
        while wait_for_credit(&mut line, &mut credit, 8192) {
            // Few names, so that the disk of the test is not filled.
            let name = (number % 10).to_string();
            credit -= say(&mut line, name.as_bytes(), EntryKind::Symlink(vec![b'x'; 4000]));
            number += 1;
        }
    });
    let temp = tempfile::tempdir().unwrap();
    let limits = CopyLimits { entries: 8_000, ..CopyLimits::default() };
    let copy = guest.session().copy_from_within(Path::new("/x"), &temp.path().join("x"), limits);
    assert!(matches!(copy, Err(SessionError::CopyTooLarge { .. })), "{copy:?}");
}

fn failures() {
    let guest = Guest::answering(|line, channel, _| {
        let message = "no ".repeat(20_000);
        line.say(channel, &Reply::Failed(Failure { kind: FailureKind::Other, message }));
    });
    let session = guest.session();
    let errors: Vec<SessionError> =
        (0..2000).map(|_| session.run(&Command::shell("x")).unwrap_err()).collect();
    assert!(errors.iter().all(|error| error.to_string().len() < 700));
}
