//! [`Session::copy_to`]: files into the guest.

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use smolvm_protocol::{Entry, EntryKind, EntryPath, HEADER, Request};

use super::super::Session;
use super::super::channel::{Channel, Interrupted, Outcome};
use super::super::error::SessionError;
use super::super::wait::deadline;
use super::{STALL, guest_path};

/// What is read of a file at once, in bytes.
const CHUNK: usize = 64 * 1024;

/// A copy into the guest.
struct Copy<'a> {
    host: &'a Path,
    guest: PathBuf,
    channel: Channel,
}

impl Session {
    /// Copies a file or directory of this host into the guest, with all that is in it. A `guest`
    /// path that ends with a slash is a directory to put it into under its own name, any other is
    /// what it is called there. Directories that lead there are made, files take the place of
    /// files, directories are joined.
    ///
    /// Permission bits and times are kept; all belongs to root. Links are copied as links, except
    /// for `host` itself. Sockets, fifos and devices are refused.
    ///
    /// # Errors
    ///
    /// [`SessionError::Io`] where this host cannot read something; [`SessionError::Guest`] where
    /// the guest cannot write it.
    pub fn copy_to(&self, host: &Path, guest: &Path) -> Result<(), SessionError> {
        let mut path = guest_path(guest)?;
        let metadata = fs_err::metadata(host).map_err(|error| unreadable(host, error))?;
        if path.ends_with(b"/")
            && let Some(name) = fs_err::canonicalize(host).ok().as_deref().and_then(Path::file_name)
        {
            path.extend_from_slice(name.as_bytes());
        }
        let guest = PathBuf::from(std::ffi::OsStr::from_bytes(&path));
        let channel = self
            .connection
            .open(&Request::Put(path), deadline(STALL))
            .map_err(|interrupted| interrupted.into_error(&request(&guest), STALL))?;
        let copy = Copy { host, guest, channel };
        copy.send_tree(&metadata)?;
        copy.send(&Request::End)?;
        match copy.channel.wait_outcome(deadline(STALL)) {
            Some(Outcome::Done) => Ok(()),
            Some(outcome) => Err(copy.interrupted(Interrupted::Ended(outcome))),
            None => Err(copy.interrupted(Interrupted::TimedOut)),
        }
    }
}

impl Copy<'_> {
    /// Sends what is copied and, where it is a directory, all that is below it.
    fn send_tree(&self, metadata: &Metadata) -> Result<(), SessionError> {
        self.send_item(self.host, b"", metadata)?;
        if !metadata.is_dir() {
            return Ok(());
        }
        // Directories that are still to be listed, with their paths in the copy.
        let mut waiting = vec![(self.host.to_owned(), Vec::new())];
        while let Some((directory, path)) = waiting.pop() {
            let entries = fs_err::read_dir(&directory).map_err(|e| unreadable(&directory, e))?;
            for entry in entries {
                let entry = entry.map_err(|error| unreadable(&directory, error))?;
                let mut path: Vec<u8> = path.clone();
                if !path.is_empty() {
                    path.push(b'/');
                }
                path.extend_from_slice(entry.file_name().as_bytes());
                let metadata = entry.metadata().map_err(|e| unreadable(&entry.path(), e))?;
                self.send_item(&entry.path(), &path, &metadata)?;
                if metadata.is_dir() {
                    waiting.push((entry.path(), path));
                }
            }
        }
        Ok(())
    }

    fn send_item(&self, host: &Path, path: &[u8], metadata: &Metadata) -> Result<(), SessionError> {
        let refused = |reason: &str| unreadable(host, io::Error::other(reason));
        let kind = if metadata.is_file() {
            EntryKind::File(metadata.len())
        } else if metadata.is_dir() {
            EntryKind::Directory
        } else if metadata.is_symlink() {
            let target = fs_err::read_link(host).map_err(|error| unreadable(host, error))?;
            EntryKind::Symlink(target.into_os_string().as_bytes().to_vec())
        } else {
            return Err(refused("it is neither file nor directory nor link"));
        };
        let is_file = matches!(kind, EntryKind::File(_));
        let path = EntryPath::parse(path).map_err(|_| refused("its path is too long"))?;
        let mode = metadata.permissions().mode() & 0o7777;
        let modified = u64::try_from(metadata.mtime()).unwrap_or(0);
        self.send_entry(Entry { path, kind, mode, modified })?;
        if is_file { self.send_content(host) } else { Ok(()) }
    }

    /// Sends an entry once the guest takes as much.
    fn send_entry(&self, entry: Entry) -> Result<(), SessionError> {
        let request = Request::Entry(entry);
        let mut frame = Vec::new();
        request.encode(0, &mut frame);
        let cost = frame.len() - HEADER;
        let reserved = self.channel.wait(deadline(STALL), |state| match &state.outcome {
            Some(outcome) => Some(Err(Interrupted::Ended(outcome.clone()))),
            None => state.stdin.sent(cost).is_ok().then_some(Ok(())),
        });
        let reserved = reserved.unwrap_or(Err(Interrupted::TimedOut));
        reserved.map_err(|interrupted| self.interrupted(interrupted))?;
        self.send(&request)
    }

    fn send_content(&self, host: &Path) -> Result<(), SessionError> {
        let mut file: File =
            fs_err::File::open(host).map_err(|error| unreadable(host, error))?.into_file();
        let mut buffer = vec![0; CHUNK];
        loop {
            let count = file.read(&mut buffer).map_err(|error| unreadable(host, error))?;
            let mut rest = &buffer[..count];
            if rest.is_empty() {
                return Ok(());
            }
            while !rest.is_empty() {
                let sent = self.channel.write(rest, deadline(STALL));
                let sent = sent.map_err(|interrupted| self.interrupted(interrupted))?;
                rest = &rest[sent..];
            }
        }
    }

    fn send(&self, request: &Request) -> Result<(), SessionError> {
        let sent = self.channel.send(request, deadline(STALL));
        sent.map_err(|interrupted| self.interrupted(interrupted))
    }

    fn interrupted(&self, interrupted: Interrupted) -> SessionError {
        interrupted.into_error(&request(&self.guest), STALL)
    }
}

fn request(guest: &Path) -> String {
    format!("take a copy as {}", guest.display())
}

fn unreadable(path: &Path, source: io::Error) -> SessionError {
    SessionError::Io { action: "read", path: path.to_owned(), source }
}
