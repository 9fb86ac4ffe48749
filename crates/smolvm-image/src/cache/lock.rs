//! The cache's locks: the kernel's own (`flock(2)`), on files that are never unlinked. They end
//! with their holder, however it ends.

use std::fs::{File, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};

use rustix::fs::Mode;
use smolvm_fork::Unshared;

use super::dir::Dir;
use crate::cancel::{CancelToken, POLL};
use crate::error::ImageError;

/// A held lock; dropping it lets the next one in.
#[derive(Debug)]
pub(crate) struct Lock {
    /// A forked child does not have it: it would keep the lock of a holder that was killed.
    file: Unshared<File>,
    is_noted: bool,
}

impl Drop for Lock {
    fn drop(&mut self) {
        if self.is_noted {
            // What is noted of a holder takes a block of the disk.
            let _ = self.file.set_len(0);
        }
        // To close it would not do: a child that is started without a fork has the file open,
        // too, until it runs its program.
        let _ = self.file.unlock();
    }
}

/// A lock that others have, too.
#[derive(Debug)]
pub(crate) struct Shared {
    file: Unshared<File>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        // As with a `Lock`.
        let _ = self.file.unlock();
    }
}

/// Takes a lock with others; `None` where it is not granted at once.
pub(super) fn share(locks: &Dir, key: &str, mode: Mode) -> Option<Shared> {
    let file = open(locks, key, mode).ok()?;
    file.try_lock_shared().ok()?;
    Some(Shared { file })
}

/// Waits for a lock. `on_wait` is called once, with the process that holds it where that is
/// known, if it is not free at once.
///
/// Waiting is a polled try-lock, so that it can be cancelled.
pub(crate) fn acquire(
    locks: &Dir,
    key: &str,
    mode: Mode,
    cancel: &CancelToken,
    on_wait: impl FnOnce(Option<u32>),
) -> Result<Lock, ImageError> {
    let mut on_wait = Some(on_wait);
    let mut is_first_look = true;
    let mut file = open(locks, key, mode)?;
    loop {
        if cancel.is_cancelled() {
            return Err(ImageError::Cancelled);
        }
        if try_lock(locks, key, &file)? {
            note_holder(&mut file);
            return Ok(Lock { file, is_noted: true });
        }
        // Who has taken it a moment ago has not noted yet who it is.
        let holder = read_holder(&mut file);
        if let Some(on_wait) = on_wait.take_if(|_| holder.is_some() || !is_first_look) {
            on_wait(holder);
        }
        is_first_look = false;
        if !cancel.sleep(POLL) {
            return Err(ImageError::Cancelled);
        }
    }
}

/// Takes a lock if nobody has it.
pub(crate) fn try_acquire(locks: &Dir, key: &str, mode: Mode) -> Result<Option<Lock>, ImageError> {
    let lock = try_acquire_unnoted(locks, key, mode)?;
    Ok(lock.map(|mut lock| {
        note_holder(&mut lock.file);
        lock.is_noted = true;
        lock
    }))
}

/// Takes a lock if nobody has it, for a moment: nobody is told who has it, and the disk's room
/// stays as it is.
pub(super) fn try_acquire_unnoted(
    locks: &Dir,
    key: &str,
    mode: Mode,
) -> Result<Option<Lock>, ImageError> {
    let file = open(locks, key, mode)?;
    Ok(try_lock(locks, key, &file)?.then_some(Lock { file, is_noted: false }))
}

/// Whether nobody has a lock. Makes nothing.
pub(crate) fn is_free(locks: &Dir, key: &str) -> Result<bool, ImageError> {
    let opened = locks.open_file(key);
    match opened.map_err(|error| ImageError::io(&locks.path_of(key), "open the lock", error))? {
        Some(file) => {
            let is_free = try_lock(locks, key, &file);
            let _ = file.unlock();
            is_free
        }
        None => Ok(true),
    }
}

fn open(locks: &Dir, key: &str, mode: Mode) -> Result<Unshared<File>, ImageError> {
    locks
        .open_or_create(key, mode)
        .map(Unshared::new)
        .map_err(|error| ImageError::io(&locks.path_of(key), "open the lock", error))
}

fn try_lock(locks: &Dir, key: &str, file: &File) -> Result<bool, ImageError> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        // No locks on this file system: at worst something is fetched twice (see `partial`).
        Err(TryLockError::Error(error)) if has_no_locks(&error) => Ok(true),
        Err(TryLockError::Error(error)) => Err(ImageError::io(&locks.path_of(key), "lock", error)),
    }
}

/// Whether the file system has no locks at all, or (NFS) nobody to ask for one.
fn has_no_locks(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Unsupported
        || error.raw_os_error() == Some(rustix::io::Errno::NOLCK.raw_os_error())
}

/// Writes this process's id into the lock, for the message of those who wait. That is all it is
/// for, so that a failure (a full disk) does not matter.
fn note_holder(file: &mut File) {
    let _ = file
        .rewind()
        .and_then(|()| file.set_len(0))
        .and_then(|()| write!(file, "{}", std::process::id()));
}

fn read_holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODE: Mode = Mode::RUSR.union(Mode::WUSR);

    #[test]
    fn one_holder_at_a_time_named_to_those_who_wait() {
        let temp = tempfile::tempdir().unwrap();
        let locks = Dir::open_root(temp.path()).unwrap();
        let cancel = CancelToken::new();
        let held = acquire(&locks, "k", MODE, &cancel, |_| panic!("nobody has it")).unwrap();
        assert!(try_acquire(&locks, "k", MODE).unwrap().is_none());
        assert!(try_acquire(&locks, "other", MODE).unwrap().is_some());

        let holder = std::sync::Mutex::new(None);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                acquire(&locks, "k", MODE, &cancel, |pid| {
                    *holder.lock().unwrap() = pid;
                })
            });
            while holder.lock().unwrap().is_none() {
                std::thread::yield_now();
            }
            drop(held);
            waiting.join().unwrap().unwrap();
        });
        assert_eq!(holder.into_inner().unwrap(), Some(std::process::id()));
    }

    /// Behaviour 31: a child of the holder that has inherited the open file does not keep the lock.
    #[test]
    fn a_lock_ends_with_its_holder_and_not_with_copies_of_its_file() {
        let temp = tempfile::tempdir().unwrap();
        let locks = Dir::open_root(temp.path()).unwrap();
        let held = try_acquire(&locks, "k", MODE).unwrap().unwrap();
        let _inherited = held.file.try_clone().unwrap();
        drop(held);
        assert!(try_acquire(&locks, "k", MODE).unwrap().is_some());
    }

    /// Behaviour 30: a waiting one can be cancelled.
    #[test]
    fn waiting_ends_when_cancelled() {
        let temp = tempfile::tempdir().unwrap();
        let locks = Dir::open_root(temp.path()).unwrap();
        let cancel = CancelToken::new();
        let _held = try_acquire(&locks, "k", MODE).unwrap().unwrap();
        let result = acquire(&locks, "k", MODE, &cancel, |_| cancel.cancel());
        assert!(matches!(result, Err(ImageError::Cancelled)));
    }
}
