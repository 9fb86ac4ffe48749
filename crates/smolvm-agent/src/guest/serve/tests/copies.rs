//! Copies into the guest and out of it.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use smolvm_protocol::{
    Entry, EntryKind, EntryPath, Failure, FailureKind, MAX_PAYLOAD, Reply, Request, SendWindow,
    Stream,
};
use smolvm_testkit::content::noise;

use super::host::{Host, eventually};

type Copy = Vec<(Entry, Vec<u8>)>;

fn entry(path: &str, kind: EntryKind, mode: u32) -> Entry {
    Entry { path: EntryPath::parse(path.as_bytes()).unwrap(), kind, mode, modified: 1_000_000_000 }
}

fn file(path: &str, content: &[u8]) -> (Entry, Vec<u8>) {
    (entry(path, EntryKind::File(content.len() as u64), 0o640), content.to_vec())
}

fn directory(path: &str) -> (Entry, Vec<u8>) {
    (entry(path, EntryKind::Directory, 0o500), Vec::new())
}

fn link(path: &str, target: &str) -> (Entry, Vec<u8>) {
    (entry(path, EntryKind::Symlink(target.as_bytes().to_vec()), 0o777), Vec::new())
}

impl Host {
    /// Copies into the guest, as far as there is credit.
    fn put(&mut self, path: &Path, copy: &Copy) -> Result<(), Failure> {
        let channel = self.open(&Request::Put(path.to_str().unwrap().as_bytes().to_vec()));
        let mut window = SendWindow::default();
        let mut requests = Vec::new();
        for (entry, content) in copy {
            requests.push(Request::Entry(entry.clone()));
            requests.extend(content.chunks(MAX_PAYLOAD).map(|part| Request::Data(part.to_vec())));
        }
        for request in requests {
            let mut frame = Vec::new();
            request.encode(channel, &mut frame);
            while window.available() < frame.len() {
                match self.reply(channel) {
                    Reply::Credit(bytes) => window.credit(bytes).unwrap(),
                    Reply::Failed(failure) => return Err(failure),
                    other => panic!("{other:?}"),
                }
            }
            window.sent(frame.len() - smolvm_protocol::HEADER).unwrap();
            self.send(channel, &request);
        }
        self.send(channel, &Request::End);
        loop {
            match self.reply(channel) {
                Reply::Credit(_) => {}
                Reply::Done => return Ok(()),
                Reply::Failed(failure) => return Err(failure),
                other => panic!("{other:?}"),
            }
        }
    }

    /// Copies out of the guest, and gives credit for every part.
    fn get(&mut self, path: &Path) -> (Copy, Reply) {
        let channel = self.open(&Request::Get(path.to_str().unwrap().as_bytes().to_vec()));
        let mut copy = Copy::new();
        loop {
            let reply = self.reply(channel);
            let mut frame = Vec::new();
            reply.encode(channel, &mut frame);
            let cost = match reply {
                Reply::Entry(entry) => {
                    copy.push((entry, Vec::new()));
                    frame.len() - smolvm_protocol::HEADER
                }
                Reply::Data(Stream::Stdout, bytes) => {
                    copy.last_mut().unwrap().1.extend_from_slice(&bytes);
                    bytes.len()
                }
                Reply::End(Stream::Stdout) => continue,
                last => return (copy, last),
            };
            let cost = u32::try_from(cost).unwrap();
            self.send(channel, &Request::Credit(Stream::Stdout, cost));
        }
    }
}

fn tree() -> Copy {
    vec![
        directory(""),
        directory("a"),
        file("a/empty", b""),
        file("a/large", &noise(4, 2 * 1024 * 1024)),
        directory("a/b"),
        file("a/b/one", b"1"),
        link("a/b/up", "../large"),
        link("dangling", "/no/such/file"),
        directory("last"),
    ]
}

fn sorted(mut copy: Copy) -> Copy {
    copy.sort_by(|one, other| one.0.path.cmp(&other.0.path));
    copy
}

fn kind(result: Result<(), Failure>) -> FailureKind {
    result.unwrap_err().kind
}

#[test]
fn a_tree_comes_out_as_it_went_in() {
    let mut host = Host::connect();
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("not/there/yet");
    host.put(&to, &tree()).unwrap();
    assert_eq!(fs::metadata(to.join("a/b")).unwrap().mode() & 0o7777, 0o500);
    assert_eq!(fs::metadata(to.join("a/b/one")).unwrap().mtime(), 1_000_000_000);
    assert_eq!(fs::read_link(to.join("a/b/up")).unwrap(), Path::new("../large"));
    let (copy, last) = host.get(&to);
    assert_eq!(last, Reply::Done);
    let (found, expected) = (sorted(copy), sorted(tree()));
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found.0, expected.0);
        assert!(found.1 == expected.1, "the content of {:?}", found.0.path);
    }
}

#[test]
fn many_small_files_come_whole() {
    let mut host = Host::connect();
    let dir = tempfile::tempdir().unwrap();
    // Their entries alone are more than the window.
    let files = (0..10_000).map(|number| file(&format!("file-{number:05}"), b"x"));
    let copy: Copy = [directory("")].into_iter().chain(files).collect();
    let to = dir.path().join("many");
    host.put(&to, &copy).unwrap();
    let (found, last) = host.get(&to);
    assert_eq!(last, Reply::Done);
    assert!(sorted(found) == sorted(copy));
}

#[test]
fn a_file_takes_the_place_of_a_file() {
    let mut host = Host::connect();
    let dir = tempfile::tempdir().unwrap();
    let (to, other) = (dir.path().join("file"), dir.path().join("other"));
    fs::write(&to, "old").unwrap();
    host.put(&to, &vec![file("", b"new")]).unwrap();
    assert_eq!(fs::read(&to).unwrap(), b"new");
    assert_eq!(fs::metadata(&to).unwrap().mode() & 0o7777, 0o640);
    // A link is replaced, and what it leads to is left alone.
    fs::write(&other, "other").unwrap();
    fs::remove_file(&to).unwrap();
    symlink(&other, &to).unwrap();
    host.put(&to, &vec![file("", b"new")]).unwrap();
    assert!(!to.is_symlink());
    assert_eq!(fs::read(&other).unwrap(), b"other");
    host.put(&to, &vec![link("", "other")]).unwrap();
    assert_eq!(fs::read(&to).unwrap(), b"other");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
}

#[test]
fn directories_are_joined() {
    let mut host = Host::connect();
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("dir");
    fs::create_dir_all(to.join("a")).unwrap();
    fs::set_permissions(to.join("a"), fs::Permissions::from_mode(0o711)).unwrap();
    fs::write(to.join("a/kept"), "kept").unwrap();
    let through = dir.path().join("link");
    symlink("dir", &through).unwrap();
    host.put(&through, &tree()).unwrap();
    assert_eq!(fs::read(to.join("a/kept")).unwrap(), b"kept");
    assert_eq!(fs::read(to.join("a/b/one")).unwrap(), b"1");
    assert_eq!(fs::metadata(to.join("a")).unwrap().mode() & 0o7777, 0o711);
}

#[test]
fn what_is_in_the_way_stays() {
    let mut host = Host::connect();
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("dir")).unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    let to = |name: &str| dir.path().join(name);
    assert_eq!(kind(host.put(&to("dir"), &vec![file("", b"x")])), FailureKind::Exists);
    assert_eq!(kind(host.put(&to("dir"), &vec![link("", "x")])), FailureKind::Exists);
    assert_eq!(kind(host.put(&to("file"), &vec![directory("")])), FailureKind::Exists);
    assert_eq!(kind(host.put(&to("file/below"), &vec![file("", b"x")])), FailureKind::Exists);
    assert_eq!(kind(host.put(Path::new("/"), &vec![file("", b"x")])), FailureKind::Exists);
    let copy = vec![directory(""), directory("file")];
    assert_eq!(kind(host.put(dir.path(), &copy)), FailureKind::Exists);
    let copy = vec![directory(""), file("dir", b"x")];
    assert_eq!(kind(host.put(dir.path(), &copy)), FailureKind::Exists);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
}

#[test]
fn no_link_is_followed_below_what_is_copied() {
    let mut host = Host::connect();
    let dir = tempfile::tempdir().unwrap();
    let outside = dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "old").unwrap();
    let outside = outside.to_str().unwrap();
    for copy in [
        vec![directory(""), link("x", outside), file("x/file", b"new")],
        vec![directory(""), link("x", outside), directory("x"), file("x/file", b"new")],
        vec![directory(""), link("x", ".."), file("x/outside/file", b"new")],
    ] {
        assert!(host.put(&dir.path().join("to"), &copy).is_err());
    }
    // A file that takes the place of a link does not go where that leads.
    let copy = vec![directory(""), link("y", "../outside/file"), file("y", b"new")];
    host.put(&dir.path().join("to"), &copy).unwrap();
    assert_eq!(fs::read(dir.path().join("outside/file")).unwrap(), b"old");
}

#[test]
fn a_copy_that_is_no_copy_is_refused() {
    let mut host = Host::connect();
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("to");
    for copy in [
        vec![],
        vec![file("a", b"x")],
        vec![file("", b"x"), file("a", b"y")],
        vec![directory(""), directory("")],
        vec![directory(""), file("no/such/directory", b"x")],
        vec![(directory("").0, b"data".to_vec())],
    ] {
        assert!(host.put(&to, &copy).is_err(), "{copy:?}");
    }
    assert_eq!(host.ask(&Request::Ping), Reply::Done);
}

#[test]
fn a_copy_that_is_broken_off_leaves_no_half_file() {
    let dir = tempfile::tempdir().unwrap();
    for close in [true, false] {
        let mut host = Host::connect();
        let path = dir.path().join("file").to_str().unwrap().as_bytes().to_vec();
        let channel = host.open(&Request::Put(path));
        host.send(channel, &Request::Entry(file("", b"whole").0));
        host.send(channel, &Request::Data(b"half".to_vec()));
        assert_eq!(host.ask(&Request::Ping), Reply::Done);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        if close {
            host.send(channel, &Request::Close);
            assert!(matches!(host.reply(channel), Reply::Failed(_)));
        } else {
            drop(host.stream);
            assert!(host.agent.ended_well());
        }
        eventually(|| fs::read_dir(dir.path()).unwrap().count() == 0);
    }
}

#[test]
fn a_link_that_is_named_is_followed() {
    let mut host = Host::connect();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "content").unwrap();
    symlink("file", dir.path().join("link")).unwrap();
    let (copy, last) = host.get(&dir.path().join("link"));
    assert_eq!(last, Reply::Done);
    assert_eq!((&*copy[0].1, &copy[0].0.kind), (b"content".as_slice(), &EntryKind::File(7)));
    let (copy, last) = host.get(Path::new("/proc/self/status"));
    assert_eq!(last, Reply::Done);
    assert!(copy[0].1.starts_with(b"Name:"), "a file that says that it has no size");
}

#[test]
fn what_cannot_be_copied_is_named() {
    let mut host = Host::connect();
    let failure = |(copy, last): (Copy, Reply)| match last {
        Reply::Failed(failure) => (copy, failure),
        other => panic!("{other:?}"),
    };
    let (_, absent) = failure(host.get(Path::new("/no/such/file")));
    assert_eq!(absent.kind, FailureKind::NotFound);
    assert!(absent.message.contains("/no/such/file"), "{absent}");
    assert_eq!(failure(host.get(Path::new("/dev/null"))).1.kind, FailureKind::Unsupported);

    let dir = tempfile::tempdir().unwrap();
    let _listener = UnixListener::bind(dir.path().join("socket")).unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    let (copy, last) = host.get(dir.path());
    assert_eq!((copy.len(), last), (2, Reply::Done), "a socket is nothing without its process");
    host.sh(&format!("mkfifo {}/fifo", dir.path().display()));
    let (copy, left_out) = failure(host.get(dir.path()));
    assert_eq!((copy.len(), left_out.kind), (2, FailureKind::Unsupported));
    assert!(left_out.message.contains("/fifo (a fifo)"), "{left_out}");
}
