//! What a guest may send, in whatever order, and where it ends up.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use super::*;

fn entry(path: &str, kind: EntryKind) -> Entry {
    Entry { path: EntryPath::parse(path.as_bytes()).unwrap(), kind, mode: 0o6755, modified: 7 }
}

fn open(host: &Path) -> Destination {
    Destination::open(Path::new("/guest/copy"), host, CopyLimits::default()).unwrap()
}

fn is_refused(result: &Result<(), SessionError>) -> bool {
    matches!(result, Err(SessionError::CopyRefused { .. }))
}

/// A guest that plants a link and then writes through it reaches nothing.
#[test]
fn a_planted_link_leads_nowhere() {
    let temp = tempfile::tempdir().unwrap();
    let outside = temp.path().join("outside");
    fs_err::create_dir(&outside).unwrap();
    let mut destination = open(&temp.path().join("copy"));
    destination.entry(entry("", EntryKind::Directory)).unwrap();
    let link = EntryKind::Symlink(outside.as_os_str().as_bytes().to_vec());
    destination.entry(entry("a", link.clone())).unwrap();
    for kind in [EntryKind::File(1), EntryKind::Directory, link] {
        assert!(is_refused(&destination.entry(entry("a/x", kind))));
    }
    // A directory does not join what a link leads to.
    destination.entry(entry("a", EntryKind::Directory)).unwrap_err();
    // A file takes the place of the link, not of what it leads to.
    destination.entry(entry("a", EntryKind::File(1))).unwrap();
    destination.data(b"x").unwrap();
    destination.finish().unwrap();
    assert_eq!(fs_err::read(temp.path().join("copy/a")).unwrap(), b"x");
    assert_eq!(fs_err::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn a_link_that_lies_there_is_not_followed_either() {
    let temp = tempfile::tempdir().unwrap();
    let outside = temp.path().join("outside");
    fs_err::create_dir(&outside).unwrap();
    let host = temp.path().join("host");
    fs_err::create_dir(&host).unwrap();
    symlink(&outside, host.join("copy")).unwrap();
    open(&host).entry(entry("", EntryKind::Directory)).unwrap_err();
    let mut destination = open(&host);
    destination.entry(entry("", EntryKind::File(0))).unwrap();
    destination.finish().unwrap();
    assert!(fs_err::symlink_metadata(host.join("copy")).unwrap().is_file());
    assert_eq!(fs_err::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn what_is_not_whole_is_not_there_and_nobody_gains_rights() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("file");
    let mut destination = open(&path);
    destination.entry(entry("", EntryKind::File(2))).unwrap();
    destination.data(b"h").unwrap();
    drop(destination);
    assert_eq!(fs_err::read_dir(temp.path()).unwrap().count(), 0);

    let mut destination = open(&path);
    destination.entry(entry("", EntryKind::File(2))).unwrap();
    destination.finish().unwrap();
    let metadata = fs_err::metadata(&path).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o755);
    assert_eq!(metadata.mtime(), 7);
}

#[test]
fn directories_have_their_modes_and_times_in_the_end() {
    let temp = tempfile::tempdir().unwrap();
    let host = temp.path().join("copy");
    let mut destination = open(&host);
    let closed = |path, kind| Entry { mode: 0o500, ..entry(path, kind) };
    for (path, kind) in [
        ("", EntryKind::Directory),
        ("a", EntryKind::Directory),
        ("a/b", EntryKind::Directory),
        ("a/b/c", EntryKind::File(0)),
        ("a/d", EntryKind::File(0)),
        ("a.e", EntryKind::File(0)),
    ] {
        destination.entry(closed(path, kind)).unwrap();
    }
    destination.finish().unwrap();
    for path in ["", "a", "a/b", "a/b/c", "a/d", "a.e"] {
        let metadata = fs_err::metadata(host.join(path)).unwrap();
        assert_eq!((metadata.mode() & 0o7777, metadata.mtime()), (0o500, 7), "{path:?}");
    }
}

#[test]
fn entries_out_of_their_order_are_refused() {
    let temp = tempfile::tempdir().unwrap();
    let mut destination = open(&temp.path().join("copy"));
    assert!(is_refused(&destination.data(b"x")));
    assert!(is_refused(&destination.entry(entry("a", EntryKind::Directory))));
    destination.entry(entry("", EntryKind::Directory)).unwrap();
    assert!(is_refused(&destination.entry(entry("", EntryKind::Directory))));
    assert!(is_refused(&destination.entry(entry("b/c", EntryKind::Directory))));
    assert!(is_refused(&destination.data(b"x")));
}

#[test]
fn a_copy_keeps_to_its_limits() {
    let temp = tempfile::tempdir().unwrap();
    let limits = CopyLimits { bytes: Some(10), entries: 3 };
    let mut destination =
        Destination::open(Path::new("/x"), &temp.path().join("copy"), limits).unwrap();
    for path in ["", "a", "b"] {
        destination.entry(entry(path, EntryKind::Directory)).unwrap();
    }
    let too_many = destination.entry(entry("c", EntryKind::Directory)).unwrap_err();
    assert!(too_many.to_string().contains("3 files"), "{too_many}");

    let mut destination =
        Destination::open(Path::new("/x"), &temp.path().join("file"), limits).unwrap();
    destination.entry(entry("", EntryKind::File(0))).unwrap();
    destination.data(b"0123456789").unwrap();
    let too_large = destination.data(b"x").unwrap_err();
    assert!(too_large.to_string().contains("10 bytes"), "{too_large}");
    drop(destination);
    assert!(!temp.path().join("file").exists());
}

#[test]
fn the_place_is_that_of_cp() {
    let temp = tempfile::tempdir().unwrap();
    let host = temp.path().join("host");
    fs_err::create_dir(&host).unwrap();
    let copy = |guest: &str, host: &Path| {
        let mut destination =
            Destination::open(Path::new(guest), host, CopyLimits::default()).unwrap();
        for (path, kind) in [("", EntryKind::Directory), ("x", EntryKind::File(0))] {
            destination.entry(entry(path, kind)).unwrap();
        }
        destination.finish().unwrap();
    };
    copy("/a/b", &host);
    assert!(host.join("b/x").is_file());
    copy("/a/.", &host);
    assert!(host.join("x").is_file());
    copy("/a/b", &temp.path().join("new"));
    assert!(temp.path().join("new/x").is_file());
    let nowhere = Path::new("/no/such/directory");
    let error = Destination::open(Path::new("/a"), nowhere, CopyLimits::default());
    assert!(error.err().unwrap().to_string().contains("/no/such"));
}
