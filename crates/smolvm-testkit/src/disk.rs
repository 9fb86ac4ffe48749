//! A file system of a few megabytes, to be full or read-only in earnest, or to be measured.

use std::ffi::{CString, OsStr};
use std::path::Path;
use std::process::Command;

use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};
use tempfile::{NamedTempFile, TempDir};

use crate::requirement::skip;

/// A file system of a fixed size, mounted on a temporary directory until dropped.
#[derive(Debug)]
pub struct SmallDisk {
    directory: TempDir,
    options: CString,
    /// What it lies in, where that is not memory.
    _image: Option<NamedTempFile>,
}

impl SmallDisk {
    /// Mounts a tmpfs with `bytes` of space, rounded up to whole pages; `None`, with the reason
    /// printed, where the process may not mount.
    ///
    /// # Panics
    ///
    /// Where it may not mount and [`REQUIRE_ALL`](crate::REQUIRE_ALL) is set.
    pub fn new(bytes: u64) -> Option<Self> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let options = CString::new(format!("size={bytes},mode=0755")).expect("no NUL in it");
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        match mount("smolvm-test", directory.path(), "tmpfs", flags, options.as_c_str()) {
            Ok(()) => Some(Self { directory, options, _image: None }),
            Err(error) => {
                skip(&format!("cannot mount a tmpfs (root can): {error}"));
                None
            }
        }
    }

    /// As [`new`](Self::new), with an ext4 in a file, which counts its blocks as a disk does.
    ///
    /// # Panics
    ///
    /// As [`new`](Self::new).
    pub fn ext4(bytes: u64) -> Option<Self> {
        let image = NamedTempFile::new().expect("a temporary file");
        image.as_file().set_len(bytes).expect("a hole");
        let directory = tempfile::tempdir().expect("a temporary directory");
        let run = |program: &str, arguments: &[&OsStr]| {
            let output = Command::new(program).args(arguments).output();
            match output {
                Ok(output) if output.status.success() => Ok(()),
                Ok(output) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
                Err(error) => Err(format!("{program}: {error}")),
            }
        };
        let file = image.path().as_os_str();
        let mounted = run("mke2fs", &["-qF".as_ref(), "-text4".as_ref(), file]).and_then(|()| {
            let target = directory.path().as_os_str();
            run("mount", &["-o".as_ref(), "loop,nosuid,nodev".as_ref(), file, target])
        });
        match mounted {
            Ok(()) => Some(Self { directory, options: CString::default(), _image: Some(image) }),
            Err(error) => {
                skip(&format!("cannot mount an ext4 from a file (root can): {error}"));
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
