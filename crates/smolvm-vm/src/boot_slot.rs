//! [`BootSlot`]: the right to boot, of which a host has only so many at a time, so that a hundred
//! machines at once do not all miss their deadlines.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::thread;
use std::time::Duration;

use smolvm_fork::Unshared;
use smolvm_image::CancelToken;

use crate::error::VmError;

/// Held while a machine boots. It is a lock on a file, which ends with the process at the latest.
#[derive(Debug)]
pub(crate) struct BootSlot {
    /// A forked child does not have it.
    lock: Unshared<File>,
}

impl Drop for BootSlot {
    fn drop(&mut self) {
        // To close it would not do: a child that is being started has it open, too.
        let _ = self.lock.unlock();
    }
}

/// How often it is looked whether a slot has become free.
const POLL: Duration = Duration::from_millis(20);

impl BootSlot {
    /// Waits until one of the slots in `directory` is free: as many as the host has processors,
    /// and at least two. `None` once the token is cancelled.
    pub(crate) fn wait(directory: &Path, cancel: &CancelToken) -> Result<Option<Self>, VmError> {
        let count = thread::available_parallelism().map_or(2, |count| count.get().max(2));
        Self::wait_for_one_of(count, directory, cancel)
    }

    fn wait_for_one_of(
        count: usize,
        directory: &Path,
        cancel: &CancelToken,
    ) -> Result<Option<Self>, VmError> {
        fs_err::create_dir_all(directory)
            .map_err(|error| VmError::io(directory, "create the directory", error))?;
        let mut told = false;
        while !cancel.is_cancelled() {
            for number in 0..count {
                let path = directory.join(number.to_string());
                let lock = File::options().create(true).append(true).open(&path);
                let lock = lock.map_err(|error| VmError::io(&path, "open", error))?;
                let lock = Unshared::new(lock);
                match lock.try_lock() {
                    Ok(()) => return Ok(Some(Self { lock })),
                    Err(TryLockError::WouldBlock) => {}
                    Err(TryLockError::Error(error)) => {
                        return Err(VmError::io(&path, "lock", error));
                    }
                }
            }
            if !told {
                log::info!("waiting: {count} other VMs are booting");
                told = true;
            }
            thread::sleep(POLL);
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_boot_at_once_than_there_are_slots() {
        let temp = tempfile::tempdir().unwrap();
        let cancel = CancelToken::new();
        let one = BootSlot::wait_for_one_of(2, temp.path(), &cancel).unwrap();
        let other = BootSlot::wait_for_one_of(2, temp.path(), &cancel).unwrap();
        let (sender, receiver) = std::sync::mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(|| {
                let third = BootSlot::wait_for_one_of(2, temp.path(), &cancel).unwrap();
                sender.send(()).unwrap();
                drop(third);
            });
            assert!(receiver.recv_timeout(Duration::from_millis(200)).is_err());
            drop(one);
            receiver.recv().unwrap();
        });
        assert!(other.is_some());
    }

    #[test]
    fn waiting_ends_when_cancelled() {
        let temp = tempfile::tempdir().unwrap();
        let cancel = CancelToken::new();
        let _one = BootSlot::wait_for_one_of(1, temp.path(), &cancel).unwrap();
        cancel.cancel();
        assert!(BootSlot::wait_for_one_of(1, temp.path(), &cancel).unwrap().is_none());
    }
}
