//! A file that a guest writes to, for those who asked for that.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::OFlags;

use super::error::DiskError;

/// The name of the record that an image cache keeps beside its files.
const RECORD: &str = "image.json";

/// Opens `path` for a VMM to read and write. While the file is open, no other VM shares it.
///
/// `is_cached` says that the file lies in an image cache; then it is refused, and so is one that
/// looks as if it did, and every file that nobody may write: root could write them all.
pub(crate) fn share(path: &Path, is_cached: bool) -> Result<File, DiskError> {
    let cached = || DiskError::Cached { path: path.to_owned() };
    if is_cached {
        return Err(cached());
    }
    let io_error = |error: io::Error| match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            DiskError::ReadOnly { path: path.to_owned() }
        }
        _ => DiskError::io("open", path, error),
    };
    let real_path = fs_err::canonicalize(path).map_err(io_error)?;
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::open(&real_path, flags, rustix::fs::Mode::empty())
        .map(File::from)
        .map_err(|error| io_error(error.into()))?;
    let metadata = file.metadata().map_err(io_error)?;
    if metadata.len() == 0 {
        return Err(DiskError::Empty { path: path.to_owned() });
    }
    if metadata.mode() & 0o222 == 0 {
        let has_record = real_path.with_file_name(RECORD).exists();
        let read_only = || DiskError::ReadOnly { path: path.to_owned() };
        return Err(if has_record { cached() } else { read_only() });
    }
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(DiskError::InUse { path: path.to_owned() }),
        // A file system without locks leaves it to the user, as does one that grants them all.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(file),
    }
}
