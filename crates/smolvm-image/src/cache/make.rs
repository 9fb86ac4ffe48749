//! Making directories and files in the cache, with the modes that they need to be shared: nobody
//! sees one before it has its mode, and what a killed maker leaves is found by its lock.

use std::collections::hash_map::RandomState;
use std::fs::File;
use std::hash::{BuildHasher as _, Hasher as _};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::dir::{DIRECTORY, Dir, is_own};
use crate::error::ImageError;

impl Dir {
    /// Opens a directory in this one, made where there is none, with exactly this mode.
    pub(crate) fn ensure_dir(&self, name: &str, mode: Mode) -> Result<Self, ImageError> {
        loop {
            if let Some(dir) = self.open_dir(name)? {
                self.share(&dir.fd, mode);
                return Ok(dir);
            }
            match self.make_dir(name, mode) {
                Ok(()) | Err(Errno::EXIST) => {}
                // Before it was locked, somebody has taken it for a leaving.
                Err(Errno::NOENT) if self.is_there() => {}
                Err(error) => {
                    let path = self.path_of(name);
                    return Err(ImageError::io(&path, "create the directory", error));
                }
            }
        }
    }

    /// Whether this directory was not removed.
    fn is_there(&self) -> bool {
        self.own_stat().is_ok_and(|stat| stat.st_nlink > 0)
    }

    /// Makes a directory that nobody sees before it has its mode. Between the two the umask holds,
    /// and whoever shares the cache would be locked out; for good, if we were killed there.
    fn make_dir(&self, name: &str, mode: Mode) -> rustix::io::Result<()> {
        let make = |name: &str| -> rustix::io::Result<OwnedFd> {
            rustix::fs::mkdirat(&self.fd, name, mode)?;
            let flags = DIRECTORY | OFlags::NOFOLLOW;
            // By descriptor: under the name may lie a link by now.
            let own = rustix::fs::openat(&self.fd, name, flags, Mode::empty())?;
            let _ = rustix::fs::flock(&own, FlockOperation::NonBlockingLockShared);
            if !is_own(&rustix::fs::fstat(&own)?) {
                return Err(Errno::PERM);
            }
            rustix::fs::fchmod(&own, mode)?;
            Ok(own)
        };
        if is_private(mode) {
            return make(name).map(drop);
        }
        self.tidy_temporaries(name);
        let temporary = temporary_name(name);
        // Locked until it has its name.
        let _own = make(&temporary)?;
        let flags = RenameFlags::NOREPLACE;
        match rustix::fs::renameat_with(&self.fd, &temporary, &self.fd, name, flags) {
            Ok(()) => Ok(()),
            Err(error) => {
                let _ = rustix::fs::unlinkat(&self.fd, &temporary, AtFlags::REMOVEDIR);
                // A file system without such a rename.
                if matches!(error, Errno::INVAL | Errno::NOSYS) {
                    make(name).map(drop)
                } else {
                    Err(error)
                }
            }
        }
    }

    /// Removes what others, who were killed at it, have left of making something of this name.
    fn tidy_temporaries(&self, name: &str) {
        let prefix = format!(".{name}.");
        for other in self.names().unwrap_or_default() {
            if other.starts_with(&prefix)
                && is_temporary_name(&other)
                && self.locks_exclude()
                && self.is_unlocked(&other)
                && self.unlink(&other).is_err()
            {
                let _ = self.remove_dir(&other);
            }
        }
    }

    /// Whether nobody has a lock on a file or directory.
    pub(super) fn is_unlocked(&self, name: &str) -> bool {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let opened = rustix::fs::openat(&self.fd, name, flags, Mode::empty());
        opened.is_ok_and(|fd| {
            let is_unlocked = rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive);
            let _ = rustix::fs::flock(&fd, FlockOperation::Unlock);
            is_unlocked.is_ok()
        })
    }

    /// Opens a file for reading and writing, made where there is none, with exactly this mode.
    pub(crate) fn open_or_create(&self, name: &str, mode: Mode) -> io::Result<File> {
        loop {
            if let Some(file) = self.open_rw(name)? {
                self.share(&file, mode);
                return Ok(file);
            }
            match self.make_file(name, mode) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                // Before it was locked, somebody has taken it for a leaving.
                Err(error) if error.kind() == io::ErrorKind::NotFound && self.is_there() => {}
                result => return result,
            }
        }
    }

    /// Gives what is this user's own the group and mode that sharing needs, where it was made
    /// before the cache was shared. If that fails, the others will hear of it.
    fn share(&self, own: impl AsFd, mode: Mode) {
        let (Ok(stat), Ok(parent)) = (rustix::fs::fstat(&own), self.own_stat()) else { return };
        let is_shared =
            Mode::from_raw_mode(stat.st_mode).contains(mode) && stat.st_gid == parent.st_gid;
        if is_private(mode) || !is_own(&stat) || is_shared {
            return;
        }
        let group = rustix::fs::Gid::from_raw(parent.st_gid);
        let shared = rustix::fs::fchown(&own, None, Some(group))
            .and_then(|()| rustix::fs::fchmod(&own, mode));
        if let Err(error) = shared {
            log::debug!("cannot share what is in {}: {error}", self.path().display());
        }
    }

    /// Makes a file that nobody sees before it has its mode, as [`make_dir`](Self::make_dir) does.
    fn make_file(&self, name: &str, mode: Mode) -> io::Result<File> {
        if is_private(mode) {
            return self.create_new(name, mode);
        }
        self.tidy_temporaries(name);
        let temporary = temporary_name(name);
        let file = self.create_new(&temporary, mode)?;
        // Until it has its name. Who waits for the lock that it may be waits for that, too.
        let _ = file.try_lock_shared();
        let flags = RenameFlags::NOREPLACE;
        let renamed = rustix::fs::renameat_with(&self.fd, &temporary, &self.fd, name, flags);
        let _ = file.unlock();
        match renamed {
            Ok(()) => Ok(file),
            Err(error) => {
                let _ = self.unlink(&temporary);
                // A file system without such a rename.
                if matches!(error, Errno::INVAL | Errno::NOSYS) {
                    self.create_new(name, mode)
                } else {
                    Err(error.into())
                }
            }
        }
    }

    /// Makes a file that did not exist, with exactly this mode, open for reading and writing.
    pub(crate) fn create_new(&self, name: &str, mode: Mode) -> io::Result<File> {
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(&self.fd, name, flags, mode)?);
        rustix::fs::fchmod(&file, mode)?;
        Ok(file)
    }
}

/// Whether the mode leaves others nothing, so that no umask can take it from them.
fn is_private(mode: Mode) -> bool {
    !mode.intersects(Mode::RWXG | Mode::RWXO)
}

/// A name that nothing has yet.
fn temporary_name(name: &str) -> String {
    let unique = RandomState::new().build_hasher().finish();
    format!(".{name}.{unique:016x}")
}

/// Whether a name was made by [`temporary_name`].
pub(super) fn is_temporary_name(name: &str) -> bool {
    let unique = name.rsplit('.').next().unwrap_or_default();
    name.starts_with('.') && unique.len() == 16 && u64::from_str_radix(unique, 16).is_ok()
}
