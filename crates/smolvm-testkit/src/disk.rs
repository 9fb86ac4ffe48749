//! A file system of a few megabytes, to be full or read-only in earnest.

use std::ffi::CString;
use std::path::Path;

use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};
use tempfile::TempDir;

use crate::requirement::skip;

/// A tmpfs of a fixed size, mounted on a temporary directory until dropped.
#[derive(Debug)]
pub struct SmallDisk {
    directory: TempDir,
    options: CString,
}

impl SmallDisk {
    /// Mounts `bytes` of space, rounded up to whole pages; `None`, with the reason printed, where
    /// the process may not mount.
    ///
    /// # Panics
    ///
    /// Where it may not mount and [`REQUIRE_ALL`](crate::REQUIRE_ALL) is set.
    pub fn new(bytes: u64) -> Option<Self> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let options = CString::new(format!("size={bytes},mode=0755")).expect("no NUL in it");
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        match mount("smolvm-test", directory.path(), "tmpfs", flags, options.as_c_str()) {
            Ok(()) => Some(Self { directory, options }),
            Err(error) => {
                skip(&format!("cannot mount a tmpfs (root can): {error}"));
                None
            }
        }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// From now on, writing fails with `EROFS`, for root as well.
    ///
    /// # Panics
    ///
    /// When a file on it is open for writing.
    pub fn remount_read_only(&self) {
        self.remount(MountFlags::RDONLY);
    }

    /// Takes [`SmallDisk::remount_read_only`] back.
    pub fn remount_read_write(&self) {
        self.remount(MountFlags::empty());
    }

    fn remount(&self, flags: MountFlags) {
        let flags = flags | MountFlags::NOSUID | MountFlags::NODEV;
        mount_remount(self.path(), flags, self.options.as_c_str()).expect("a remount");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Detached: a file that something still has open must not leave the mount behind.
        let _ = unmount(self.path(), UnmountFlags::DETACH);
    }
}
