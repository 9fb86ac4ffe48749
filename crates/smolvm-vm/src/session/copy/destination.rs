//! [`Destination`]: the place of a copy on this host, out of which nothing that a guest sends leads.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use smolvm_protocol::{Entry, EntryKind};

/// Where a copy goes to. Everything below it is reached from open directories by single names, and
/// no symbolic link is followed on the way, not even one that the copy itself has brought.
pub(super) struct Destination {
    /// What it is called, for messages.
    pub(super) path: PathBuf,
    parent: OwnedFd,
    name: Vec<u8>,
    /// The directory that it is, once it is known to be one.
    root: Option<OwnedFd>,
    is_begun: bool,
    file: Option<Unfinished>,
}

/// Why an entry was not taken.
pub(super) enum Refusal {
    /// It leads out of the copy, or is not what it should be.
    Entry(&'static str),
    Io(io::Error),
}

/// A file under a temporary name, which is removed unless it is finished.
struct Unfinished {
    directory: OwnedFd,
    temporary: String,
    name: Vec<u8>,
    file: File,
    mode: Mode,
    modified: SystemTime,
    is_finished: bool,
}

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Destination {
    /// `path`, or, where that is a directory, what is called `name` in it. Links on the way to it
    /// are the caller's own, and are followed.
    pub(super) fn new(path: &Path, name: Option<&std::ffi::OsStr>) -> io::Result<Self> {
        let path = match name {
            Some(name) if path.is_dir() => path.join(name),
            _ => path.to_owned(),
        };
        let path = std::path::absolute(path)?;
        let (parent, name) = match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => (parent, name.as_encoded_bytes().to_vec()),
            _ => return Err(io::ErrorKind::IsADirectory.into()),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let parent = rustix::fs::open(parent, flags, Mode::empty())?;
        Ok(Self { path, parent, name, root: None, is_begun: false, file: None })
    }

    /// The bytes that its file system has left for this user.
    pub(super) fn available(&self) -> io::Result<u64> {
        let stat = rustix::fs::fstatvfs(&self.parent)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// Takes the next entry.
    pub(super) fn enter(&mut self, entry: &Entry) -> Result<(), Refusal> {
        self.finish_file()?;
        let names: Vec<&[u8]> = entry.path.components().collect();
        let Some((name, parents)) = names.split_last() else {
            return self.begin(entry);
        };
        let Some(root) = &self.root else {
            return Err(Refusal::Entry("lies below what is no directory"));
        };
        let mut directory = root.as_fd().try_clone_to_owned().map_err(Refusal::Io)?;
        for parent in parents {
            directory = rustix::fs::openat(&directory, *parent, DIRECTORY, Mode::empty()).map_err(
                |error| match error {
                    Errno::LOOP | Errno::NOTDIR => Refusal::Entry("leads through a link or file"),
                    Errno::NOENT => Refusal::Entry("lies in a directory that was not sent"),
                    error => error.into(),
                },
            )?;
        }
        match &entry.kind {
            EntryKind::File(_) => self.file = Some(Unfinished::new(directory, name, entry)?),
            EntryKind::Directory => {
                make_directory(&directory, name, entry)?;
            }
            EntryKind::Symlink(target) => make_link(&directory, name, target)?,
        }
        Ok(())
    }

    /// Adds to the content of the last file.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        match &mut self.file {
            Some(file) => Ok(file.file.write_all(bytes)?),
            None => Err(Refusal::Entry("has content although it is no file")),
        }
    }

    /// Puts the last file in its place.
    pub(super) fn finish(&mut self) -> Result<(), Refusal> {
        if !self.is_begun {
            return Err(Refusal::Entry("is nothing at all"));
        }
        self.finish_file()
    }

    fn finish_file(&mut self) -> Result<(), Refusal> {
        self.file.take().map_or(Ok(()), Unfinished::finish)
    }

    /// The first entry: what is copied itself.
    fn begin(&mut self, entry: &Entry) -> Result<(), Refusal> {
        if std::mem::replace(&mut self.is_begun, true) {
            return Err(Refusal::Entry("comes twice"));
        }
        match &entry.kind {
            EntryKind::File(_) => {
                let parent = self.parent.try_clone()?;
                self.file = Some(Unfinished::new(parent, &self.name, entry)?);
            }
            EntryKind::Directory => {
                self.root = Some(make_directory(&self.parent, &self.name, entry)?);
            }
            EntryKind::Symlink(_) => {
                return Err(Refusal::Entry("is a link in the place of what it leads to"));
            }
        }
        Ok(())
    }
}

/// Makes a directory, or joins the one that is there. Its owner can always use it, so that what
/// belongs into it can be put there.
fn make_directory(parent: &OwnedFd, name: &[u8], entry: &Entry) -> Result<OwnedFd, Refusal> {
    let is_new = match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
        Ok(()) => true,
        Err(Errno::EXIST) => false,
        Err(error) => return Err(error.into()),
    };
    let directory = rustix::fs::openat(parent, name, DIRECTORY, Mode::empty())?;
    if is_new {
        rustix::fs::fchmod(&directory, permissions(entry) | Mode::RWXU)?;
    }
    Ok(directory)
}

/// Makes a link in the place of a file or link.
fn make_link(directory: &OwnedFd, name: &[u8], target: &[u8]) -> Result<(), Refusal> {
    match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(rustix::fs::symlinkat(target, directory, name)?)
}

/// A guest gives nobody here the rights of another user.
fn permissions(entry: &Entry) -> Mode {
    Mode::from_raw_mode(entry.mode & 0o777)
}

impl Unfinished {
    fn new(directory: OwnedFd, name: &[u8], entry: &Entry) -> Result<Self, Refusal> {
        use std::hash::{BuildHasher as _, Hasher as _};

        let unique = std::hash::RandomState::new().build_hasher().finish();
        let temporary = format!(".smolvm-{unique:016x}");
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&directory, &temporary, flags, Mode::RUSR | Mode::WUSR)?;
        Ok(Self {
            directory,
            temporary,
            name: name.to_vec(),
            file: File::from(file),
            mode: permissions(entry),
            modified: SystemTime::UNIX_EPOCH
                .checked_add(Duration::from_secs(entry.modified))
                .unwrap_or_else(SystemTime::now),
            is_finished: false,
        })
    }

    /// Puts it in the place of what has its name.
    fn finish(mut self) -> Result<(), Refusal> {
        // A time that the file system does not know is no reason to lose the file.
        let _ = self.file.set_modified(self.modified);
        rustix::fs::fchmod(&self.file, self.mode)?;
        let (directory, name) = (&self.directory, self.name.as_slice());
        rustix::fs::renameat(directory, &self.temporary, directory, name)?;
        self.is_finished = true;
        Ok(())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.is_finished {
            // Nobody is left to be told.
            let _ = rustix::fs::unlinkat(&self.directory, &self.temporary, AtFlags::empty());
        }
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Errno> for Refusal {
    fn from(error: Errno) -> Self {
        Self::Io(error.into())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use smolvm_protocol::EntryPath;

    use super::*;

    fn entry(path: &str, kind: EntryKind) -> Entry {
        Entry { path: EntryPath::parse(path.as_bytes()).unwrap(), kind, mode: 0o6755, modified: 7 }
    }

    /// A guest that plants a link and then writes through it reaches nothing.
    #[test]
    fn a_planted_link_leads_nowhere() {
        let temp = tempfile::tempdir().unwrap();
        let outside = temp.path().join("outside");
        fs_err::create_dir(&outside).unwrap();
        let mut destination = Destination::new(&temp.path().join("copy"), None).unwrap();
        destination.enter(&entry("", EntryKind::Directory)).ok().unwrap();
        let link = EntryKind::Symlink(outside.as_os_str().as_encoded_bytes().to_vec());
        destination.enter(&entry("a", link)).ok().unwrap();
        for kind in [EntryKind::File(1), EntryKind::Directory] {
            let refused = destination.enter(&entry("a/x", kind));
            assert!(matches!(refused, Err(Refusal::Entry(_))));
        }
        // A directory does not join what a link leads to.
        assert!(destination.enter(&entry("a", EntryKind::Directory)).is_err());
        // A file takes the place of the link, not of what it leads to.
        destination.enter(&entry("a", EntryKind::File(1))).ok().unwrap();
        destination.write(b"x").ok().unwrap();
        destination.finish().ok().unwrap();
        assert_eq!(fs_err::read(temp.path().join("copy/a")).unwrap(), b"x");
        assert_eq!(fs_err::read_dir(&outside).unwrap().count(), 0);
    }

    #[test]
    fn what_is_not_whole_is_not_there_and_nobody_gains_rights() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("file");
        let mut destination = Destination::new(&path, None).unwrap();
        destination.enter(&entry("", EntryKind::File(2))).ok().unwrap();
        destination.write(b"h").ok().unwrap();
        drop(destination);
        assert_eq!(fs_err::read_dir(temp.path()).unwrap().count(), 0);

        let mut destination = Destination::new(&path, None).unwrap();
        destination.enter(&entry("", EntryKind::File(2))).ok().unwrap();
        destination.finish().ok().unwrap();
        let metadata = fs_err::metadata(&path).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o7777, 0o755);
        assert_eq!(metadata.modified().unwrap(), SystemTime::UNIX_EPOCH + Duration::from_secs(7));
    }

    #[test]
    fn entries_out_of_their_order_are_refused() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("copy");
        let mut destination = Destination::new(&path, None).unwrap();
        assert!(destination.finish().is_err());
        assert!(destination.enter(&entry("a", EntryKind::Directory)).is_err());
        assert!(destination.write(b"x").is_err());
        destination.enter(&entry("", EntryKind::Directory)).ok().unwrap();
        assert!(destination.enter(&entry("", EntryKind::Directory)).is_err());
        assert!(destination.enter(&entry("b/c", EntryKind::Directory)).is_err());
        assert!(destination.write(b"x").is_err());
    }
}
