//! [`Staging`]: a disk's file while it is made, private and without its name until it is complete.

use std::fs::File;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::Isolation;
use super::error::{DiskError, free_bytes};

/// The file of a disk that is being made. It is removed when dropped unpublished.
#[derive(Debug)]
pub(super) struct Staging {
    temporary: NamedTempFile,
    path: PathBuf,
}

impl Staging {
    /// An empty file, readable and writable by its user alone, in the VM's directory.
    pub(super) fn create(directory: &Path, isolation: Isolation) -> Result<Self, DiskError> {
        let path = directory.join(isolation.file_name());
        let temporary = tempfile::Builder::new()
            .prefix(".disk-")
            .tempfile_in(directory)
            .map_err(|error| DiskError::write(&path, 1, error))?;
        Ok(Self { temporary, path })
    }

    pub(super) fn file(&self) -> &File {
        self.temporary.as_file()
    }

    /// What it is called until it is published.
    pub(super) fn temporary_path(&self) -> &Path {
        self.temporary.path()
    }

    /// What it will be called.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Refuses to go on where the file system says that it has less than `needed` bytes left.
    pub(super) fn require(&self, needed: u64) -> Result<(), DiskError> {
        match self.path.parent().and_then(free_bytes) {
            Some(free) if free < needed => {
                Err(DiskError::StorageFull { path: self.path.clone(), needed, free })
            }
            _ => Ok(()),
        }
    }

    /// Grows or shrinks the file; what is added is a hole.
    pub(super) fn set_length(&self, length: u64) -> Result<(), DiskError> {
        self.file().set_len(length).map_err(|error| DiskError::write(&self.path, 1, error))
    }

    /// Gives the file its name.
    pub(super) fn publish(self) -> Result<(), DiskError> {
        let Self { temporary, path } = self;
        match temporary.persist(&path) {
            Ok(_) => Ok(()),
            Err(error) => Err(DiskError::io("rename a file to", &path, error.error)),
        }
    }
}
