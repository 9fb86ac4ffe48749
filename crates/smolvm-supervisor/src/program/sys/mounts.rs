//! Mounts that are made of open files (`open_tree(2)`, `move_mount(2)`, `mount_setattr(2)`): what is
//! mounted is what is open, not what is found under a name.

use std::ffi::{CStr, CString, c_char, c_int, c_long, c_uint, c_ulong, c_void};
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::{UserMap, check};

#[cfg(target_arch = "x86_64")]
const SYS_PIVOT_ROOT: c_long = 155;
#[cfg(target_arch = "aarch64")]
const SYS_PIVOT_ROOT: c_long = 41;
const SYS_OPEN_TREE: c_long = 428;
const SYS_MOVE_MOUNT: c_long = 429;
const SYS_MOUNT_SETATTR: c_long = 442;

const AT_FDCWD: c_int = -100;
const AT_EMPTY_PATH: c_uint = 0x1000;
const OPEN_TREE_CLONE: c_uint = 1;
const OPEN_TREE_CLOEXEC: c_uint = 0o2_000_000;
const MOVE_MOUNT_F_EMPTY_PATH: c_uint = 4;
const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;

const MNT_DETACH: c_int = 2;
const MS_RDONLY: c_ulong = 1;
const MS_NOSUID: c_ulong = 2;
const MS_NODEV: c_ulong = 4;
const MS_NOEXEC: c_ulong = 8;
const MS_REMOUNT: c_ulong = 32;
const MS_BIND: c_ulong = 4096;
const MS_REC: c_ulong = 16384;
const MS_SLAVE: c_ulong = 1 << 19;

/// `struct mount_attr` of the kernel.
#[repr(C)]
struct Attributes {
    set: u64,
    clear: u64,
    propagation: u64,
    users: u64,
}

unsafe extern "C" {
    fn syscall(number: c_long, ...) -> c_long;
    fn mount(
        source: *const c_char,
        target: *const c_char,
        kind: *const c_char,
        flags: c_ulong,
        data: *const c_void,
    ) -> c_int;
    fn umount2(target: *const c_char, flags: c_int) -> c_int;
    fn mkfifo(path: *const c_char, mode: c_uint) -> c_int;
}

/// A mount of a file or directory that is nowhere yet.
#[derive(Debug)]
pub(crate) struct Mount(OwnedFd);

impl Mount {
    /// A mount of what is open, which is in this process's namespace of mounts.
    pub(crate) fn of(file: impl AsFd) -> io::Result<Self> {
        let flags = AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC;
        let file = file.as_fd().as_raw_fd();
        // SAFETY: the path is empty and ends with a zero byte.
        let fd = checked(unsafe { syscall(SYS_OPEN_TREE, file, c"".as_ptr(), flags) })?;
        // SAFETY: the descriptor was just made and nobody else knows it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Shows the owners of files through this mount as this says.
    pub(crate) fn map_users(&self, users: &UserMap) -> io::Result<()> {
        let users = u64::from(users.file().as_raw_fd().unsigned_abs());
        let attributes = Attributes { set: MOUNT_ATTR_IDMAP, clear: 0, propagation: 0, users };
        let (fd, size) = (self.0.as_raw_fd(), size_of::<Attributes>());
        let empty = c"".as_ptr();
        // SAFETY: the path is empty and ends with a zero byte; the attributes live until the call
        // returns, and their size is told.
        checked(unsafe {
            syscall(SYS_MOUNT_SETATTR, fd, empty, AT_EMPTY_PATH, &raw const attributes, size)
        })
        .map(drop)
    }

    /// Puts it over what is at this path; nothing in it is a device, is executed, or makes anybody
    /// another user.
    pub(crate) fn put(self, path: &Path, is_read_only: bool) -> io::Result<()> {
        let path = text(path)?;
        let fd = self.0.as_raw_fd();
        let flags = MOVE_MOUNT_F_EMPTY_PATH;
        // SAFETY: both paths end with a zero byte.
        checked(unsafe {
            syscall(SYS_MOVE_MOUNT, fd, c"".as_ptr(), AT_FDCWD, path.as_ptr(), flags)
        })?;
        let mut flags = MS_REMOUNT | MS_BIND | MS_NOSUID | MS_NODEV | MS_NOEXEC;
        if is_read_only {
            flags |= MS_RDONLY;
        }
        call_mount(None, &path, None, flags, None)
    }
}

/// What is mounted or unmounted in this namespace of mounts from now on is so nowhere else.
pub(crate) fn root_is_slave() -> io::Result<()> {
    call_mount(None, c"/", None, MS_SLAVE | MS_REC, None)
}

/// Makes what is mounted at this path the root of this process and of its namespace of mounts, in
/// which nothing else is mounted any more.
pub(crate) fn change_root(path: &Path) -> io::Result<()> {
    std::env::set_current_dir(path)?;
    let here = c".".as_ptr();
    // SAFETY: the paths end with a zero byte. The old root is mounted over the new one and taken
    // away from there (`pivot_root(2)`).
    checked(unsafe { syscall(SYS_PIVOT_ROOT, here, here) })?;
    // SAFETY: as above.
    check(unsafe { umount2(here, MNT_DETACH) })?;
    std::env::set_current_dir("/")
}

/// Mounts an empty file system in memory, of at most so many bytes and files. There may be devices
/// in it.
pub(crate) fn mount_memory(path: &Path, bytes: u64, files: u32) -> io::Result<()> {
    let options = CString::new(format!("size={bytes},nr_inodes={files},mode=0700"))?;
    let kind = Some(c"tmpfs");
    call_mount(kind, &text(path)?, kind, MS_NOSUID, Some(&options))
}

/// Makes a pipe that has a name, for this user alone.
pub(crate) fn fifo(path: &Path) -> io::Result<()> {
    // SAFETY: the path ends with a zero byte.
    check(unsafe { mkfifo(text(path)?.as_ptr(), 0o600) }).map(drop)
}

fn call_mount(
    source: Option<&CStr>,
    target: &CStr,
    kind: Option<&CStr>,
    flags: c_ulong,
    options: Option<&CStr>,
) -> io::Result<()> {
    let pointer = |text: Option<&CStr>| text.map_or(std::ptr::null(), CStr::as_ptr);
    // SAFETY: all texts end with a zero byte and live until the call returns; none need be there.
    check(unsafe {
        mount(pointer(source), target.as_ptr(), pointer(kind), flags, pointer(options).cast())
    })
    .map(drop)
}

fn text(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

fn checked(result: c_long) -> io::Result<c_int> {
    check(c_int::try_from(result).unwrap_or(-1))
}
