//! [`Dir`]: an open directory of the cache. Everything in the cache is reached from one of these
//! by a single name, and no symbolic link is followed, so that a planted one leads nowhere.

use std::fs::{File, Metadata};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::error::ImageError;

/// An open directory, and its path for messages.
#[derive(Debug)]
pub(crate) struct Dir {
    pub(super) fd: OwnedFd,
    path: PathBuf,
}

/// What identifies a file as long as it is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Inode {
    device: u64,
    number: u64,
}

impl Inode {
    pub(super) fn new(device: u64, number: u64) -> Self {
        Self { device, number }
    }

    pub(crate) fn of(stat: &Stat) -> Self {
        Self { device: stat.st_dev, number: stat.st_ino }
    }

    /// As [`of`](Self::of), of what std says of a file.
    pub(crate) fn at(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), number: metadata.ino() }
    }
}

pub(super) const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

impl Dir {
    /// Opens the directory that the user named. Links on the way to it are the user's own, and
    /// are followed.
    pub(crate) fn open_root(path: &Path) -> io::Result<Self> {
        Ok(Self { fd: rustix::fs::open(path, DIRECTORY, Mode::empty())?, path: path.to_owned() })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Opens a directory in this one; `None` where there is none.
    pub(crate) fn open_dir(&self, name: &str) -> Result<Option<Self>, ImageError> {
        let path = self.path_of(name);
        match rustix::fs::openat(&self.fd, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(fd) => Ok(Some(Self { fd, path })),
            Err(Errno::NOENT) => Ok(None),
            Err(Errno::LOOP | Errno::NOTDIR) => Err(ImageError::Link { path }),
            Err(error) => Err(ImageError::io(&path, "open the directory", error)),
        }
    }

    /// Opens a regular file for reading; `None` where there is nothing of that name, an error
    /// where there is something else.
    pub(crate) fn open_file(&self, name: &str) -> io::Result<Option<File>> {
        self.open(name, OFlags::RDONLY)
    }

    /// The same, for this very file; `None` also where another one has the name by now.
    pub(crate) fn open_this_file(&self, name: &str, inode: Inode) -> io::Result<Option<File>> {
        let Some(file) = self.open_file(name)? else { return Ok(None) };
        let stat = rustix::fs::fstat(&file)?;
        Ok((Inode::of(&stat) == inode).then_some(file))
    }

    /// Opens a regular file for reading and writing; `None` where there is nothing of that name.
    pub(crate) fn open_rw(&self, name: &str) -> io::Result<Option<File>> {
        self.open(name, OFlags::RDWR)
    }

    fn open(&self, name: &str, access: OFlags) -> io::Result<Option<File>> {
        // NONBLOCK: to open a planted FIFO must not wait for its other end.
        let flags = access | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        match rustix::fs::openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => {
                let file = File::from(fd);
                if file.metadata()?.is_file() {
                    Ok(Some(file))
                } else {
                    Err(io::Error::other("it is not a regular file"))
                }
            }
            Err(Errno::NOENT) => Ok(None),
            Err(Errno::LOOP) => Err(io::Error::other("it is a symbolic link")),
            Err(error) => Err(error.into()),
        }
    }

    /// What lies under a name, links not followed; `None` for nothing.
    pub(crate) fn stat(&self, name: &str) -> io::Result<Option<Stat>> {
        match rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The identity of what lies under a name, if anything does.
    pub(crate) fn inode_of(&self, name: &str) -> Option<Inode> {
        self.stat(name).ok().flatten().map(|stat| Inode::of(&stat))
    }

    /// Whether this very file lies under a name.
    pub(crate) fn has(&self, name: &str, inode: Inode) -> bool {
        self.inode_of(name) == Some(inode)
    }

    /// Whether this user may read what lies under a name.
    pub(crate) fn is_readable(&self, name: &str) -> bool {
        let flags = AtFlags::EACCESS | AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::accessat(&self.fd, name, rustix::fs::Access::READ_OK, flags).is_ok()
    }

    pub(crate) fn rename(&self, from: &str, to: &Self, to_name: &str) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.fd, from, &to.fd, to_name)?)
    }

    pub(crate) fn hard_link(&self, from: &str, to: &Self, to_name: &str) -> io::Result<()> {
        Ok(rustix::fs::linkat(&self.fd, from, &to.fd, to_name, AtFlags::empty())?)
    }

    /// Makes a second name for a file of this directory, in the place of what lies there.
    pub(crate) fn link_anew(&self, from: &str, to: &str) -> io::Result<()> {
        self.unlink(to)?;
        self.hard_link(from, self, to)
    }

    /// Removes a file or link (never what it points to); nothing there is no error.
    pub(crate) fn unlink(&self, name: &str) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes an empty directory; nothing there is no error.
    pub(crate) fn remove_dir(&self, name: &str) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes a directory in this one with everything below it; links are removed, not followed.
    pub(crate) fn remove_tree(&self, name: &str) -> Result<(), ImageError> {
        if let Some(dir) = self.open_dir(name)? {
            for entry in dir.names()? {
                let is_dir = dir
                    .stat(&entry)
                    .map_err(|error| ImageError::io(&dir.path_of(&entry), "look at", error))?
                    .is_some_and(|stat| is_directory(&stat));
                if is_dir {
                    dir.remove_tree(&entry)?;
                } else {
                    dir.unlink(&entry)
                        .map_err(|error| ImageError::io(&dir.path_of(&entry), "remove", error))?;
                }
            }
        }
        self.remove_dir(name).map_err(|error| ImageError::io(&self.path_of(name), "remove", error))
    }

    /// The names in this directory, sorted; names that are no UTF-8 are none of ours and left out.
    pub(crate) fn names(&self) -> Result<Vec<String>, ImageError> {
        let read = || -> io::Result<Vec<String>> {
            let mut names = Vec::new();
            for entry in rustix::fs::Dir::read_from(&self.fd)? {
                if let Ok(name) = entry?.file_name().to_str()
                    && name != "."
                    && name != ".."
                {
                    names.push(name.to_owned());
                }
            }
            names.sort();
            Ok(names)
        };
        read().map_err(|error| ImageError::io(&self.path, "list", error))
    }

    /// Bytes that this user may still write, and bytes of the whole file system.
    pub(crate) fn space(&self) -> io::Result<(u64, u64)> {
        let stat = rustix::fs::fstatvfs(&self.fd)?;
        // Root may use the blocks that are reserved for it.
        let root = rustix::process::geteuid().is_root();
        let free = if root { stat.f_bfree } else { stat.f_bavail };
        Ok((free.saturating_mul(stat.f_frsize), stat.f_blocks.saturating_mul(stat.f_frsize)))
    }

    /// Whether locks on this file system are known to exclude: on a local one they are, over a
    /// network nobody knows.
    pub(crate) fn locks_exclude(&self) -> bool {
        /// Magic numbers of `statfs(2)`: ext2-4, xfs, btrfs, tmpfs, overlayfs, f2fs, zfs,
        /// bcachefs, ramfs, vfat, exfat, ntfs3, jfs, squashfs, erofs.
        const LOCAL: [u32; 15] = [
            0xef53,
            0x5846_5342,
            0x9123_683e,
            0x0102_1994,
            0x794c_7630,
            0xf2f5_2010,
            0x2fc1_2fc1,
            0xca45_1a4e,
            0x8584_58f6,
            0x4d44,
            0x2011_bab0,
            0x7366_746e,
            0x3153_464a,
            0x7371_7368,
            0xe0f5_e1e2,
        ];
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the numbers have 32 bits whatever the width of the field"
        )]
        rustix::fs::fstatfs(&self.fd).is_ok_and(|stat| LOCAL.contains(&(stat.f_type as u32)))
    }

    /// Whether this user alone can change what is in the directory.
    pub(crate) fn is_private(&self) -> io::Result<bool> {
        let stat = self.own_stat()?;
        Ok(is_own(&stat) && !Mode::from_raw_mode(stat.st_mode).intersects(Mode::WGRP | Mode::WOTH))
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.fd)?)
    }

    pub(crate) fn own_stat(&self) -> io::Result<Stat> {
        Ok(rustix::fs::fstat(&self.fd)?)
    }
}

/// Whether it belongs to the user that this process acts as.
pub(super) fn is_own(stat: &Stat) -> bool {
    stat.st_uid == rustix::process::geteuid().as_raw()
}

pub(crate) fn is_regular(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}

pub(crate) fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

/// The size in bytes that a file announces.
pub(crate) fn size_of(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

/// The bytes that a file takes on disk, as `du` counts them.
pub(crate) fn disk_bytes(stat: &Stat) -> u64 {
    // `st_blocks` counts units of 512 bytes whatever the block size (POSIX `sys/stat.h`, Linux).
    u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512)
}
