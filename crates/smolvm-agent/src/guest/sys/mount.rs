//! Mounting file systems, and growing one that is mounted.

use std::ffi::{CString, c_char, c_int, c_ulong, c_void};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::Path;

use super::{c_path, check};

/// Mount flags of `mount(2)`; `|` joins them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flags(c_ulong);

impl Flags {
    /// None of them.
    pub(crate) const NONE: Self = Self(0);
    /// `MS_RDONLY`.
    pub(crate) const READ_ONLY: Self = Self(1);
    /// `MS_NOSUID`.
    pub(crate) const NO_SUID: Self = Self(1 << 1);
    /// `MS_NODEV`.
    pub(crate) const NO_DEVICES: Self = Self(1 << 2);
    /// `MS_NOEXEC`.
    pub(crate) const NO_EXEC: Self = Self(1 << 3);

    const REMOUNT: Self = Self(1 << 5);
    const MOVE: Self = Self(1 << 13);
}

impl std::ops::BitOr for Flags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

unsafe extern "C" {
    fn mount(
        source: *const c_char,
        target: *const c_char,
        kind: *const c_char,
        flags: c_ulong,
        data: *const c_void,
    ) -> c_int;
    fn umount2(target: *const c_char, flags: c_int) -> c_int;
    fn ioctl(fd: c_int, request: IoctlRequest, ...) -> c_int;
}

/// The C libraries do not agree on it.
#[cfg(target_env = "musl")]
type IoctlRequest = c_int;
#[cfg(not(target_env = "musl"))]
type IoctlRequest = c_ulong;

/// Mounts what is on `source` (a device, or any word for a file system without one) at `target`.
pub(crate) fn attach(
    source: &Path,
    target: &Path,
    kind: &str,
    flags: Flags,
    options: &str,
) -> io::Result<()> {
    call(source, target, kind, flags, options)
}

/// Mounts what is mounted at `from` at `to` instead.
pub(crate) fn move_to(from: &Path, to: &Path) -> io::Result<()> {
    call(from, to, "", Flags::MOVE, "")
}

/// From now on, nothing is written to what is mounted at `target`.
pub(crate) fn make_read_only(target: &Path) -> io::Result<()> {
    call(Path::new("none"), target, "", Flags::REMOUNT | Flags::READ_ONLY, "")
}

fn call(source: &Path, target: &Path, kind: &str, flags: Flags, options: &str) -> io::Result<()> {
    let (source, target) = (c_path(source)?, c_path(target)?);
    let (kind, options) = (CString::new(kind)?, CString::new(options)?);
    // SAFETY: all pointers are to strings that end with NUL and live until the call returns; no
    // file system reads its options past that NUL.
    check(unsafe {
        mount(
            source.as_ptr(),
            target.as_ptr(),
            kind.as_ptr(),
            flags.0,
            options.as_ptr().cast::<c_void>(),
        )
    })?;
    Ok(())
}

/// Takes the mount at `target` out of sight; it ends when nothing uses it any more.
pub(crate) fn detach(target: &Path) -> io::Result<()> {
    const MNT_DETACH: c_int = 2;
    let target = c_path(target)?;
    // SAFETY: the pointer is to a string that ends with NUL and lives until the call returns.
    check(unsafe { umount2(target.as_ptr(), MNT_DETACH) })?;
    Ok(())
}

/// Grows the mounted ext4 file system that `directory` is on to this many of its blocks.
pub(crate) fn resize_ext4(directory: &File, blocks: u64) -> io::Result<()> {
    /// `EXT4_IOC_RESIZE_FS`: `_IOW('f', 16, __u64)`.
    const RESIZE: IoctlRequest = 0x4008_6610;
    // SAFETY: the request reads eight bytes from the pointer, which is to a `u64`.
    check(unsafe { ioctl(directory.as_raw_fd(), RESIZE, &raw const blocks) })?;
    Ok(())
}
