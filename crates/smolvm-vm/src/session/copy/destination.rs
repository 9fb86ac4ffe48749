//! [`Destination`]: where files of a guest are written on this host, and nowhere else.
//!
//! Everything is opened from the descriptor of the directory that the copy goes to, one component
//! at a time and never through a link, so that no order of entries leads out of it.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, fchmod, futimens, mkdirat, open, openat};
use rustix::io::Errno;
use smolvm_protocol::{Entry, EntryKind, EntryPath};

use super::budget::{Budget, CopyLimits};
use super::guest_path::own_name;
use super::replacement::{self, Marks, Replacement};
use crate::session::error::SessionError;

/// A place on this host for what comes out of a guest.
pub(super) struct Destination {
    /// What is copied, as the caller named it.
    guest: PathBuf,
    /// Where it goes to.
    host: PathBuf,
    /// The directory that the copy is made in, and the name of the copy there.
    base: Arc<OwnedFd>,
    name: OsString,
    budget: Budget,
    marks: Marks,
    /// The file that is being written.
    file: Option<(Replacement, EntryPath)>,
    /// Directories that were made and may still be written to; each lies in the one before it.
    directories: Vec<Entry>,
    /// The directory that was written to last, with its path.
    last: Option<(Vec<u8>, Arc<OwnedFd>)>,
    has_root: bool,
}

const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::CLOEXEC);

impl Destination {
    /// Finds the place for `guest` at `host`: in it where that is a directory, else as it.
    pub(super) fn open(
        guest: &Path,
        host: &Path,
        limits: CopyLimits,
    ) -> Result<Self, SessionError> {
        let is_directory = fs_err::metadata(host).is_ok_and(|metadata| metadata.is_dir());
        let (base, name) = match (is_directory, own_name(guest), own_name(host)) {
            (true, Some(name), _) => (host, name),
            (false, _, Some(name)) => (host.parent().unwrap_or(Path::new("")), name),
            // The contents of a directory are merged into it.
            (true, None, _) | (false, _, None) => (host, OsStr::new(".")),
        };
        let base = if base.as_os_str().is_empty() { Path::new(".") } else { base };
        let fail = |errno: Errno| SessionError::io("write to", base, errno.into());
        Ok(Self {
            guest: guest.to_owned(),
            host: base.join(name),
            base: Arc::new(open(base, DIRECTORY, Mode::empty()).map_err(fail)?),
            name: name.to_owned(),
            budget: Budget::new(limits),
            marks: Marks::new().map_err(fail)?,
            file: None,
            directories: Vec::new(),
            last: None,
            has_root: false,
        })
    }

    /// Takes in the next entry.
    pub(super) fn entry(&mut self, entry: Entry) -> Result<(), SessionError> {
        self.finish_file()?;
        self.finish_directories(Some(&entry.path))?;
        self.budget.entry(&self.base).map_err(|limit| self.too_large(limit))?;
        let is_root = entry.path.as_bytes().is_empty();
        if is_root == self.has_root {
            return Err(self.refused(&entry.path, "is not below what was sent first"));
        }
        self.has_root = true;
        let (directory, name) = self.parent(&entry.path)?;
        let mark = self.marks.next();
        match &entry.kind {
            EntryKind::Directory => self.make_directory(&directory, &name, entry),
            EntryKind::Symlink(target) => {
                let made = replacement::link(&directory, &name, &mark, target, entry.modified);
                made.map_err(|errno| self.io("make the link", &entry.path, errno.into()))
            }
            EntryKind::File(_) => {
                let made = Replacement::new(directory, name, mark, entry.mode, entry.modified);
                let file = made.map_err(|errno| self.io("write", &entry.path, errno.into()))?;
                self.file = Some((file, entry.path));
                Ok(())
            }
        }
    }

    /// Takes in a part of the file that was sent last.
    pub(super) fn data(&mut self, bytes: &[u8]) -> Result<(), SessionError> {
        self.budget.bytes(bytes.len(), &self.base).map_err(|limit| self.too_large(limit))?;
        let Some((file, path)) = &mut self.file else {
            return Err(self.refused(&EntryPath::root(), "is content without a file"));
        };
        let written = file.write(bytes);
        let path = path.clone();
        written.map_err(|error| self.io("write", &path, error))
    }

    /// All has come.
    pub(super) fn finish(mut self) -> Result<(), SessionError> {
        self.finish_file()?;
        self.finish_directories(None)
    }

    fn make_directory(
        &mut self,
        parent: &OwnedFd,
        name: &OsStr,
        entry: Entry,
    ) -> Result<(), SessionError> {
        match mkdirat(parent, name, Mode::RWXU) {
            Ok(()) => self.directories.push(entry),
            // One that was there before keeps its permissions.
            Err(Errno::EXIST) => {
                open_below(parent, name)
                    .map_err(|errno| self.io("write to", &entry.path, errno.into()))?;
            }
            Err(errno) => return Err(self.io("make the directory", &entry.path, errno.into())),
        }
        Ok(())
    }

    fn finish_file(&mut self) -> Result<(), SessionError> {
        let Some((file, path)) = self.file.take() else {
            return Ok(());
        };
        file.finish().map_err(|errno| self.io("write", &path, errno.into()))
    }

    /// Gives the directories that are finished their permissions and times: all but those that
    /// `next` lies in.
    fn finish_directories(&mut self, next: Option<&EntryPath>) -> Result<(), SessionError> {
        while let Some(directory) =
            self.directories.pop_if(|made| !next.is_some_and(|next| lies_in(next, &made.path)))
        {
            let path = &directory.path;
            let finish = |descriptor: Arc<OwnedFd>| {
                fchmod(&descriptor, replacement::permissions(directory.mode))?;
                futimens(&descriptor, &replacement::times(directory.modified))
            };
            self.last = None;
            let opened = self.directory(path.components())?;
            finish(opened).map_err(|errno| self.io("finish", path, errno.into()))?;
        }
        Ok(())
    }

    /// The directory that an entry belongs to, and its name there.
    fn parent(&mut self, path: &EntryPath) -> Result<(Arc<OwnedFd>, OsString), SessionError> {
        let components: Vec<&[u8]> = path.components().collect();
        let Some((name, parents)) = components.split_last() else {
            return Ok((Arc::clone(&self.base), self.name.clone()));
        };
        let name = OsStr::from_bytes(name).to_owned();
        let parent = parents.join(&b'/');
        if let Some((last, descriptor)) = &self.last
            && *last == parent
        {
            return Ok((Arc::clone(descriptor), name));
        }
        let descriptor = self.directory(parents.iter().copied())?;
        self.last = Some((parent, Arc::clone(&descriptor)));
        Ok((descriptor, name))
    }

    /// Opens a directory of the copy, one component after the other.
    fn directory<'a>(
        &self,
        components: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Arc<OwnedFd>, SessionError> {
        let mut path = Vec::new();
        let mut descriptor = open_below(&self.base, &self.name);
        for component in components {
            path.push(component);
            descriptor = descriptor
                .and_then(|descriptor| open_below(&descriptor, OsStr::from_bytes(component)));
        }
        descriptor.map(Arc::new).map_err(|errno| {
            let path = EntryPath::parse(&path.join(&b'/')).unwrap_or_else(|_| EntryPath::root());
            match errno {
                Errno::NOENT => self.refused(&path, "was not sent, with something in it"),
                Errno::NOTDIR | Errno::LOOP => {
                    self.refused(&path, "is no directory, with something in it")
                }
                errno => self.io("open", &path, errno.into()),
            }
        })
    }

    fn io(&self, action: &'static str, path: &EntryPath, source: io::Error) -> SessionError {
        let below = Path::new(OsStr::from_bytes(path.as_bytes()));
        let path =
            if below.as_os_str().is_empty() { self.host.clone() } else { self.host.join(below) };
        SessionError::Io { action, path, source }
    }

    fn refused(&self, entry: &EntryPath, reason: &'static str) -> SessionError {
        let entry = format!("{entry:?}");
        SessionError::CopyRefused { path: self.guest.clone(), entry, reason }
    }

    fn too_large(&self, limit: String) -> SessionError {
        SessionError::CopyTooLarge {
            path: self.guest.clone(),
            destination: self.host.clone(),
            limit,
        }
    }
}

/// Opens a directory by its name in another, but not through a link.
fn open_below(directory: &OwnedFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    openat(directory, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())
}

fn lies_in(path: &EntryPath, directory: &EntryPath) -> bool {
    let (path, directory) = (path.as_bytes(), directory.as_bytes());
    directory.is_empty() || path.strip_prefix(directory).is_some_and(|rest| rest.starts_with(b"/"))
}

#[cfg(test)]
mod tests;
