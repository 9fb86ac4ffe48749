//! Reading files of this host, to be copied into a guest.

use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use smolvm_protocol::{Entry, EntryKind, EntryPath, HEADER, Request};

use super::STALL;
use crate::session::channel::{Channel, Interrupted};
use crate::session::error::SessionError;
use crate::session::wait::deadline;

/// Why not all was sent.
pub(super) enum Stopped {
    /// A file of this host could not be read.
    Host(SessionError),
    /// The guest does not take it.
    Guest(Interrupted),
}

/// Sends what is at `root`, which may be a link to it, and all below it.
pub(super) fn send(root: &Path, metadata: &Metadata, channel: &Channel) -> Result<(), Stopped> {
    send_one(root, metadata, b"", channel)?;
    // What is still to be sent; the names of what lies in one directory after another.
    let mut waiting = Vec::new();
    if metadata.is_dir() {
        waiting.push((root.to_owned(), Vec::new(), names(root)?));
    }
    while let Some((directory, path, names_left)) = waiting.last_mut() {
        let Some(name) = names_left.pop() else {
            waiting.pop();
            continue;
        };
        let file = directory.join(&name);
        let below = below(path, name);
        let metadata =
            fs_err::symlink_metadata(&file).map_err(|error| Stopped::host("read", &file, error))?;
        send_one(&file, &metadata, &below, channel)?;
        if metadata.is_dir() {
            let names = names(&file)?;
            waiting.push((file, below, names));
        }
    }
    channel.send(&Request::End, deadline(STALL)).map_err(Stopped::Guest)
}

/// The names in a directory, the first of them last.
fn names(directory: &Path) -> Result<Vec<OsString>, Stopped> {
    let read = || -> io::Result<Vec<OsString>> {
        fs_err::read_dir(directory)?.map(|entry| Ok(entry?.file_name())).collect()
    };
    let mut names = read().map_err(|error| Stopped::host("read", directory, error))?;
    names.sort_unstable_by(|a, b| b.cmp(a));
    Ok(names)
}

fn below(path: &[u8], name: OsString) -> Vec<u8> {
    let separator: &[u8] = if path.is_empty() { b"" } else { b"/" };
    [path, separator, &name.into_vec()].concat()
}

/// Sends a file, directory or link, without what is in the directory.
fn send_one(
    file: &Path,
    metadata: &Metadata,
    path: &[u8],
    channel: &Channel,
) -> Result<(), Stopped> {
    let kind = metadata.file_type();
    let entry_path = EntryPath::parse(path).map_err(|_| {
        Stopped::host("copy", file, io::Error::other("its path is longer than a path can be"))
    })?;
    let entry = |kind, metadata: &Metadata| Entry {
        path: entry_path,
        kind,
        mode: metadata.mode() & 0o7777,
        modified: u64::try_from(metadata.mtime()).unwrap_or(0),
    };
    if kind.is_dir() {
        send_entry(entry(EntryKind::Directory, metadata), channel)
    } else if kind.is_symlink() {
        let target = fs_err::read_link(file).map_err(|error| Stopped::host("read", file, error))?;
        let target = target.as_os_str().as_bytes().to_vec();
        send_entry(entry(EntryKind::Symlink(target), metadata), channel)
    } else if kind.is_file() {
        let (opened, metadata) = open(file, path.is_empty())?;
        send_entry(entry(EntryKind::File(metadata.len()), &metadata), channel)?;
        send_contents(opened, file, channel)
    } else {
        Err(not_copied(file))
    }
}

/// Opens what was a regular file a moment ago, and still is.
fn open(path: &Path, follows: bool) -> Result<(File, Metadata), Stopped> {
    // Should it be a pipe by now, nobody waits for its other end.
    let mut flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    flags.set(OFlags::NOFOLLOW, !follows);
    let opened = rustix::fs::open(path, flags, Mode::empty())
        .map_err(|errno| Stopped::host("read", path, errno.into()))?;
    let file = File::from(opened);
    let metadata = file.metadata().map_err(|error| Stopped::host("read", path, error))?;
    if metadata.is_file() { Ok((file, metadata)) } else { Err(not_copied(path)) }
}

fn not_copied(path: &Path) -> Stopped {
    let reason = "it is neither a file, a directory nor a symbolic link";
    Stopped::host("copy", path, io::Error::new(io::ErrorKind::InvalidInput, reason))
}

fn send_entry(entry: Entry, channel: &Channel) -> Result<(), Stopped> {
    let request = Request::Entry(entry);
    let mut frame = Vec::new();
    request.encode(0, &mut frame);
    let sent = channel.send_counted(&request, frame.len() - HEADER, deadline(STALL));
    sent.map_err(Stopped::Guest)
}

fn send_contents(mut file: File, path: &Path, channel: &Channel) -> Result<(), Stopped> {
    let mut buffer = vec![0; 32 * 1024];
    loop {
        let count = match file.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Stopped::host("read", path, error)),
        };
        let mut rest = &buffer[..count];
        while !rest.is_empty() {
            let taken = channel.write(rest, deadline(STALL)).map_err(Stopped::Guest)?;
            rest = &rest[taken..];
        }
    }
}

impl Stopped {
    fn host(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Host(SessionError::io(action, path, source))
    }
}
