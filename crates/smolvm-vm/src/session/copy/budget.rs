//! How much a copy out of a guest may bring: [`CopyLimits`], and the [`Budget`] that counts it.

use std::os::fd::OwnedFd;

use rustix::fs::fstatvfs;

/// How much may be copied out of a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyLimits {
    /// The most bytes of all files together. Without a limit, the host's disk is one: a copy stops
    /// while 64 MiB of it are still free.
    pub bytes: Option<u64>,
    /// The most files, directories and links together; a million where nothing else is said.
    pub entries: u64,
}

impl Default for CopyLimits {
    fn default() -> Self {
        Self { bytes: None, entries: 1_000_000 }
    }
}

/// What a copy has brought so far.
#[derive(Debug)]
pub(super) struct Budget {
    limits: CopyLimits,
    bytes: u64,
    entries: u64,
    /// What came since the disk was looked at last, in bytes.
    unchecked: u64,
}

impl Budget {
    /// What a copy leaves free of the host's disk, in bytes.
    const RESERVE: u64 = 64 * 1024 * 1024;

    /// The disk is looked at each time that so much has come.
    const CHECK: u64 = 16 * 1024 * 1024;

    /// What an entry takes of a disk at least, more or less.
    const ENTRY: u64 = 4096;

    pub(super) fn new(limits: CopyLimits) -> Self {
        Self { limits, bytes: 0, entries: 0, unchecked: 0 }
    }

    /// Counts an entry that goes to the file system of `place`; the limit that it exceeds.
    pub(super) fn entry(&mut self, place: &OwnedFd) -> Result<(), String> {
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(format!("{} files", self.limits.entries));
        }
        self.check(Self::ENTRY, place)
    }

    /// Counts bytes that go to the file system of `place`; the limit that they exceed.
    pub(super) fn bytes(&mut self, count: usize, place: &OwnedFd) -> Result<(), String> {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        self.bytes = self.bytes.saturating_add(count);
        match self.limits.bytes {
            Some(limit) if self.bytes > limit => Err(format!("{limit} bytes")),
            _ => self.check(count, place),
        }
    }

    fn check(&mut self, count: u64, place: &OwnedFd) -> Result<(), String> {
        self.unchecked = self.unchecked.saturating_add(count);
        if self.unchecked < Self::CHECK {
            return Ok(());
        }
        self.unchecked = 0;
        // A file system that does not tell is not protected.
        let free = fstatvfs(place).map_or(u64::MAX, |disk| disk.f_bavail * disk.f_frsize);
        if free < Self::RESERVE {
            return Err(format!("the last {free} free bytes of this host's disk"));
        }
        Ok(())
    }
}
