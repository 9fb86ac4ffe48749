//! Agents that answer the copying of a directory with what should harm the host.

use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use smolvm_protocol::{Entry, EntryKind, EntryPath, Exit, Frame, Reply, Request, Stream, WINDOW};

use super::guest::{Guest, Line};
use crate::session::{CopyLimits, SessionError};

const FILE: [u8; 9] = [0; 9];
const DIRECTORY: [u8; 1] = [1];

/// An entry as it is on the wire, which may say anything.
fn raw_entry(line: &mut Line, channel: u32, path: &[u8], mode: u32, kind: &[u8]) {
    let length = u32::try_from(path.len()).unwrap().to_le_bytes();
    let payload = [&length[..], path, &mode.to_le_bytes(), &7_u64.to_le_bytes(), kind].concat();
    let mut wire = Vec::new();
    Frame { channel, kind: 147, payload: &payload }.encode(&mut wire);
    line.raw(&wire);
}

fn entry(line: &mut Line, channel: u32, path: &str, kind: EntryKind) {
    let path = EntryPath::parse(path.as_bytes()).unwrap();
    line.say(channel, &Reply::Entry(Entry { path, kind, mode: 0o777, modified: 7 }));
}

fn link(target: &Path) -> EntryKind {
    EntryKind::Symlink(target.as_os_str().as_bytes().to_vec())
}

fn data(line: &mut Line, channel: u32, bytes: &[u8]) -> bool {
    line.say(channel, &Reply::Data(Stream::Stdout, bytes.to_vec()))
}

/// Copies out of a guest that answers so; it is told a directory outside, where nothing may come
/// to be. Returns the error, and what there is in the destination then.
fn copy_of(
    answer: impl Fn(&mut Line, u32, &Path) + Send + Sync + 'static,
) -> (SessionError, Vec<String>) {
    let temp = tempfile::tempdir().unwrap();
    let outside = temp.path().join("outside");
    fs_err::create_dir(&outside).unwrap();
    fs_err::write(outside.join("precious"), "as it was").unwrap();
    let host = temp.path().join("host");
    fs_err::create_dir(&host).unwrap();
    let target = outside.clone();
    let guest = Guest::answering(move |line, channel, _| answer(line, channel, &target));
    let limits = CopyLimits { bytes: Some(1 << 20), entries: 100 };
    let copied = guest.session().copy_from_within(Path::new("/x/copy"), &host, limits);
    let error = copied.unwrap_err();

    assert_eq!(names(&outside), ["precious"], "{error}");
    assert_eq!(fs_err::read(outside.join("precious")).unwrap(), b"as it was", "{error}");
    assert_eq!(names(temp.path()), ["host", "outside"], "{error}");
    (error, names(&host))
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs_err::read_dir(directory).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn names_that_lead_out_break_the_protocol() {
    let names = ["..", "../x", "a/../../outside/x", "/etc/x", "a//b", "./x", "a/", "a\0b"];
    let long = ["a".repeat(256), "a/".repeat(3000) + "a"];
    for name in names.iter().copied().chain(long.iter().map(String::as_str)) {
        let sent = name.to_owned();
        let (error, left) = copy_of(move |line, channel, _| {
            entry(line, channel, "", EntryKind::Directory);
            raw_entry(line, channel, sent.as_bytes(), 0o644, &FILE);
            data(line, channel, b"evil");
        });
        assert!(matches!(error, SessionError::Protocol(_)), "{name:?}: {error}");
        assert!(left.is_empty() || left == ["copy"], "{name:?}: {left:?}");
    }
}

#[test]
fn fields_that_cannot_be_break_the_protocol() {
    let fields: [(u32, Vec<u8>); 6] = [
        (0o10_000, FILE.to_vec()),
        (u32::MAX, DIRECTORY.to_vec()),
        (0o644, vec![3]),
        (0o644, [&[2][..], &0_u32.to_le_bytes()].concat()),
        (0o644, [&[2][..], &u32::MAX.to_le_bytes(), b"x"].concat()),
        (0o644, [&FILE[..], b"x"].concat()),
    ];
    for (mode, kind) in fields {
        let sent = kind.clone();
        let (error, _) = copy_of(move |line, channel, _| {
            entry(line, channel, "", EntryKind::Directory);
            raw_entry(line, channel, b"x", mode, &sent);
        });
        assert!(matches!(error, SessionError::Protocol(_)), "{mode:o} {kind:?}: {error}");
    }
}

/// What a guest sends on a channel; the path is one that it would like to reach.
type Attack = fn(&mut Line, u32, &Path);

const ATTACKS: &[(&str, Attack)] = &[
    ("a file through a link", |line, channel, outside| {
        entry(line, channel, "", EntryKind::Directory);
        entry(line, channel, "a", link(outside));
        entry(line, channel, "a/precious", EntryKind::File(4));
        data(line, channel, b"evil");
    }),
    ("a directory through a link", |line, channel, outside| {
        entry(line, channel, "", EntryKind::Directory);
        entry(line, channel, "a", link(outside));
        entry(line, channel, "a/new", EntryKind::Directory);
    }),
    ("a link through a link", |line, channel, outside| {
        entry(line, channel, "", EntryKind::Directory);
        entry(line, channel, "a", link(outside));
        entry(line, channel, "a/new", link(Path::new("/")));
    }),
    ("a link through a relative link", |line, channel, _| {
        entry(line, channel, "", EntryKind::Directory);
        entry(line, channel, "a", link(Path::new("../../outside")));
        entry(line, channel, "a/b", link(Path::new("..")));
    }),
    ("the whole is a link", |line, channel, outside| {
        entry(line, channel, "", link(outside));
        entry(line, channel, "precious", EntryKind::File(4));
    }),
    ("below a file", |line, channel, _| {
        entry(line, channel, "", EntryKind::Directory);
        entry(line, channel, "a", EntryKind::File(0));
        entry(line, channel, "a/b", EntryKind::File(0));
    }),
    ("below nothing", |line, channel, _| {
        entry(line, channel, "", EntryKind::Directory);
        entry(line, channel, "a/b", EntryKind::File(0));
    }),
    ("without a whole", |line, channel, _| entry(line, channel, "a", EntryKind::File(0))),
    ("the whole twice", |line, channel, outside| {
        entry(line, channel, "", EntryKind::Directory);
        entry(line, channel, "", link(outside));
    }),
    ("content of nothing", |line, channel, _| {
        data(line, channel, b"evil");
    }),
    ("content of a directory", |line, channel, _| {
        entry(line, channel, "", EntryKind::Directory);
        data(line, channel, b"evil");
    }),
];

#[test]
fn no_order_of_entries_leads_out() {
    for &(name, attack) in ATTACKS {
        let (error, _) = copy_of(attack);
        assert!(matches!(error, SessionError::CopyRefused { .. }), "{name}: {error}");
    }
}

#[test]
fn a_directory_does_not_become_a_link() {
    let (error, _) = copy_of(|line, channel, outside| {
        entry(line, channel, "", EntryKind::Directory);
        entry(line, channel, "a", EntryKind::Directory);
        entry(line, channel, "a", link(outside));
        entry(line, channel, "a/precious", EntryKind::File(4));
        data(line, channel, b"evil");
    });
    assert!(matches!(error, SessionError::Io { .. }), "{error}");
}

#[test]
fn a_file_without_end_comes_to_one() {
    let (error, left) = copy_of(|line, channel, _| {
        entry(line, channel, "", EntryKind::File(1));
        // As far as the window reaches, which is granted again as the host writes.
        let mut credit = WINDOW - 64;
        loop {
            while credit >= 1024 && data(line, channel, &[0; 1024]) {
                credit -= 1024;
            }
            match line.next() {
                Some((_, Request::Credit(_, granted))) => credit += granted,
                _ => break,
            }
        }
    });
    assert!(matches!(error, SessionError::CopyTooLarge { .. }), "{error}");
    assert!(error.to_string().contains("1048576 bytes"), "{error}");
    assert_eq!(left, [] as [&str; 0]);
}

#[test]
fn a_directory_without_end_comes_to_one() {
    let (error, _) = copy_of(|line, channel, _| {
        entry(line, channel, "", EntryKind::Directory);
        for number in 0..200 {
            entry(line, channel, &number.to_string(), EntryKind::Directory);
        }
    });
    assert!(error.to_string().contains("100 files"), "{error}");
}

#[test]
fn what_is_not_whole_is_not_kept() {
    let begin = |line: &mut Line, channel| {
        entry(line, channel, "", EntryKind::File(4));
        data(line, channel, b"ha");
    };
    let (error, left) = copy_of(move |line, channel, _| {
        begin(line, channel);
        line.stream.shutdown(std::net::Shutdown::Both).unwrap();
    });
    assert!(matches!(error, SessionError::Disconnected), "{error}");
    assert_eq!(left, [] as [&str; 0]);
    let (error, left) = copy_of(move |line, channel, _| {
        begin(line, channel);
        line.say(channel, &Reply::Exited { exit: Exit::Code(0), nanos: 0 });
    });
    assert!(matches!(error, SessionError::Protocol(_)), "{error}");
    assert_eq!(left, [] as [&str; 0]);
}

/// What a guest gives cannot be run with somebody else's rights.
#[test]
fn no_rights_come_with_a_copy() {
    let guest = Guest::answering(|line, channel, _| {
        for (path, kind) in [("", EntryKind::Directory), ("x", EntryKind::File(0))] {
            let path = EntryPath::parse(path.as_bytes()).unwrap();
            let entry = Entry { path, kind, mode: 0o7755, modified: u64::MAX };
            line.say(channel, &Reply::Entry(entry));
        }
        line.say(channel, &Reply::Done);
    });
    let temp = tempfile::tempdir().unwrap();
    let copy = temp.path().join("copy");
    guest.session().copy_from(Path::new("/x"), &copy).unwrap();
    for path in [copy.join("x"), copy] {
        assert_eq!(fs_err::metadata(path).unwrap().mode() & 0o7777, 0o755);
    }
}
