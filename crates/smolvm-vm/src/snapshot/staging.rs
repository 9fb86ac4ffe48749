//! [`Staging`]: the directory of a snapshot while it is made, under another name. What was left by
//! one that was killed is removed by the next one beside it.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;
use smolvm_fork::Unshared;
use tempfile::TempDir;

use super::error::SnapshotError;

/// The directory of a snapshot that is being made. It is removed when dropped unpublished.
#[derive(Debug)]
pub(super) struct Staging {
    directory: TempDir,
    /// Locked as long as somebody makes it.
    lock: Unshared<File>,
    destination: PathBuf,
}

/// What its name begins with until it is whole.
const PREFIX: &str = ".smolvm-snapshot-";

impl Staging {
    /// A directory of this user's alone, beside `destination`, where nothing may be.
    pub(super) fn create(destination: &Path) -> Result<Self, SnapshotError> {
        let failed = |error| SnapshotError::io(destination, "make the directory", error);
        let destination = std::path::absolute(destination).map_err(failed)?;
        if destination.symlink_metadata().is_ok() {
            return Err(SnapshotError::Exists { path: destination });
        }
        let parent = destination.parent().unwrap_or(Path::new("/"));
        sweep(parent);
        loop {
            let mut builder = tempfile::Builder::new();
            builder.prefix(PREFIX).permissions(Permissions::from_mode(0o700));
            let directory = builder.tempdir_in(parent).map_err(failed)?;
            let lock = File::open(directory.path()).map(Unshared::new).map_err(failed)?;
            // Somebody who sweeps may have been faster, and will have removed it.
            if lock.try_lock().is_ok() && is_there(&lock, directory.path()) {
                return Ok(Self { directory, lock, destination });
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// What it will be called.
    pub(super) fn destination(&self) -> &Path {
        &self.destination
    }

    /// Its making was cancelled.
    pub(super) fn cancelled(&self) -> SnapshotError {
        SnapshotError::Cancelled { path: self.destination.clone() }
    }

    /// A new file in it, of this user's alone.
    pub(super) fn file(&self, name: &str) -> Result<File, SnapshotError> {
        let mut options = File::options();
        options.read(true).write(true).create_new(true).mode(0o600);
        let file = options.open(self.path().join(name));
        file.map_err(|error| SnapshotError::io(&self.destination.join(name), "create", error))
    }

    /// Gives it its name, unless there is something of that name by now. Nobody is to write to its
    /// files any more.
    pub(super) fn publish(self) -> Result<(), SnapshotError> {
        let Self { directory, lock, destination } = self;
        let failed = |error: io::Error| SnapshotError::io(&destination, "write", error);
        for entry in fs_err::read_dir(directory.path()).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            fs_err::set_permissions(path, Permissions::from_mode(0o400)).map_err(failed)?;
        }
        let rename =
            |flags| rustix::fs::renameat_with(CWD, directory.path(), CWD, &destination, flags);
        let renamed = match rename(RenameFlags::NOREPLACE) {
            // The file system does not know how; an empty directory could be replaced.
            Err(Errno::INVAL | Errno::NOSYS) if destination.symlink_metadata().is_err() => {
                rename(RenameFlags::empty())
            }
            renamed => renamed,
        };
        match renamed {
            Ok(()) => {
                let _ = directory.keep();
                let _ = lock.unlock();
                Ok(())
            }
            Err(Errno::EXIST | Errno::NOTEMPTY | Errno::INVAL | Errno::NOSYS) => {
                Err(SnapshotError::Exists { path: destination })
            }
            Err(error) => Err(failed(error.into())),
        }
    }
}

/// Whether the path leads to this directory.
fn is_there(directory: &File, path: &Path) -> bool {
    let number = |metadata: io::Result<std::fs::Metadata>| {
        metadata.map(|metadata| (metadata.dev(), metadata.ino())).ok()
    };
    number(directory.metadata()) == number(path.symlink_metadata())
}

/// Removes what is left in a directory of snapshots that nobody makes any more.
fn sweep(parent: &Path) {
    for entry in fs_err::read_dir(parent).into_iter().flatten().flatten() {
        if !entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes()) {
            continue;
        }
        let Ok(directory) = File::open(entry.path()).map(Unshared::new) else { continue };
        if directory.try_lock().is_ok() {
            if let Err(error) = fs_err::remove_dir_all(entry.path()) {
                log::debug!("cannot remove what was left of a snapshot: {error}");
            }
            let _ = directory.unlock();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_there_whole_or_not_at_all_and_what_was_left_goes() {
        let temp = tempfile::tempdir().unwrap();
        let destination = temp.path().join("snapshot");
        let names = || fs_err::read_dir(temp.path()).unwrap().count();
        // One that was killed: its lock is gone.
        fs_err::create_dir(temp.path().join(format!("{PREFIX}left"))).unwrap();

        let staging = Staging::create(&destination).unwrap();
        assert_eq!(names(), 1);
        staging.file("memory").unwrap();
        // One that is being made stays.
        let other = Staging::create(&destination).unwrap();
        assert_eq!(names(), 2);
        drop(other);
        assert_eq!(names(), 1);

        let second = Staging::create(&destination).unwrap();
        staging.publish().unwrap();
        assert!(destination.join("memory").exists());
        let mode = |path: &Path| fs_err::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&destination), mode(&destination.join("memory"))), (0o700, 0o400));
        assert!(matches!(second.publish(), Err(SnapshotError::Exists { .. })));
        assert_eq!(names(), 1);
        assert!(matches!(Staging::create(&destination), Err(SnapshotError::Exists { .. })));
        let nowhere = temp.path().join("nowhere/snapshot");
        let error = Staging::create(&nowhere).unwrap_err().to_string();
        assert!(error.contains("nowhere/snapshot"), "{error}");
    }
}
