//! The system calls that `std` has no safe way to, behind functions that are safe to call.
#![expect(unsafe_code, reason = "a program of nothing but std reaches the C library by itself")]

mod child;
pub(crate) mod interfaces;
mod mounts;
mod namespaces;

use std::ffi::{c_char, c_int, c_short, c_uint, c_ulong};
use std::fs::{self, File};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::thread;
use std::time::Duration;

use self::child::die_with;
pub(crate) use self::child::{Preparation, end_with_parent, prepare_child};
pub(crate) use self::mounts::{Mount, change_root, fifo, mount_memory, root_is_slave};
pub(crate) use self::namespaces::{UserMap, enter_jail, spawn_init};

/// What `poll(2)` takes and gives.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct PollFd {
    pub(crate) fd: RawFd,
    pub(crate) events: c_short,
    pub(crate) revents: c_short,
}

/// `sigset_t` of the C libraries for Linux: 1024 bits.
type SignalSet = [u64; 16];

pub(crate) const POLLIN: c_short = 1;
pub(crate) const POLLOUT: c_short = 4;

pub(crate) const SIGTERM: c_int = 15;
pub(crate) const SIGCHLD: c_int = 17;
const SIGHUP: c_int = 1;
const SIGINT: c_int = 2;
const SIGKILL: c_int = 9;
const SIGPIPE: c_int = 13;
const SIG_DFL: usize = 0;
const SIG_IGN: usize = 1;
const SIG_SETMASK: c_int = 2;

const F_GETFL: c_int = 3;
const F_SETFL: c_int = 4;
const F_DUPFD_CLOEXEC: c_int = 1030;
const O_NONBLOCK: c_int = 0o4000;
const O_CLOEXEC: c_int = 0o2_000_000;
#[cfg(target_arch = "x86_64")]
pub(crate) const O_DIRECTORY: c_int = 0o200_000;
#[cfg(target_arch = "x86_64")]
pub(crate) const O_NOFOLLOW: c_int = 0o400_000;
#[cfg(target_arch = "aarch64")]
pub(crate) const O_DIRECTORY: c_int = 0o40_000;
#[cfg(target_arch = "aarch64")]
pub(crate) const O_NOFOLLOW: c_int = 0o100_000;

const CLONE_NEWUSER: c_int = 0x1000_0000;
const CLONE_NEWNET: c_int = 0x4000_0000;
/// `IFF_TAP | IFF_NO_PI | IFF_VNET_HDR`.
const IFF_TAP_PLAIN: c_short = 0x0002 | 0x1000 | 0x4000;
const NAME_SIZE: usize = 16;

const MFD_CLOEXEC: c_uint = 1;

const PR_SET_PDEATHSIG: c_int = 1;
const PR_SET_NO_NEW_PRIVS: c_int = 38;
const PR_SET_NAME: c_int = 15;

unsafe extern "C" {
    fn poll(fds: *mut PollFd, count: c_ulong, timeout: c_int) -> c_int;
    fn fcntl(fd: c_int, command: c_int, ...) -> c_int;
    fn dup3(old: c_int, new: c_int, flags: c_int) -> c_int;
    fn close(fd: c_int) -> c_int;
    fn ioctl(fd: c_int, request: c_ulong, ...) -> c_int;
    fn unshare(flags: c_int) -> c_int;
    fn setns(fd: c_int, kind: c_int) -> c_int;
    fn setgroups(count: usize, groups: *const u32) -> c_int;
    fn setresgid(real: u32, effective: u32, saved: u32) -> c_int;
    fn setresuid(real: u32, effective: u32, saved: u32) -> c_int;
    fn memfd_create(name: *const c_char, flags: c_uint) -> c_int;
    fn setsid() -> c_int;
    fn getppid() -> c_int;
    fn geteuid() -> c_uint;
    fn getegid() -> c_uint;
    fn prctl(option: c_int, ...) -> c_int;
    fn signal(number: c_int, handler: usize) -> usize;
    fn sigemptyset(set: *mut SignalSet) -> c_int;
    fn sigaddset(set: *mut SignalSet, number: c_int) -> c_int;
    fn sigprocmask(how: c_int, set: *const SignalSet, old: *mut SignalSet) -> c_int;
    fn signalfd(fd: c_int, set: *const SignalSet, flags: c_int) -> c_int;
}

/// Waits until one of them is ready, for at most `timeout`.
pub(crate) fn wait(fds: &mut [PollFd], timeout: Option<Duration>) -> io::Result<()> {
    // Rounded up, so that nobody asks again and again for the last part of a millisecond.
    let milliseconds = timeout.map_or(-1, |timeout| {
        c_int::try_from(timeout.as_micros().div_ceil(1000)).unwrap_or(c_int::MAX)
    });
    let count = c_ulong::try_from(fds.len()).unwrap_or(c_ulong::MAX);
    // SAFETY: the pointer and the count are those of one slice, which is borrowed mutably.
    match check(unsafe { poll(fds.as_mut_ptr(), count, milliseconds) }) {
        Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
        _ => Ok(()),
    }
}

/// Another descriptor of the same file, numbered `least` or higher, closed on exec.
pub(crate) fn duplicate(fd: RawFd, least: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: no memory is involved; a number that is not open is an error.
    let duplicate = check(unsafe { fcntl(fd, F_DUPFD_CLOEXEC, least) })?;
    // SAFETY: the descriptor was just made and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(duplicate) })
}

/// Makes `number` another descriptor of the same file for the rest of this process's life, closed
/// on exec where `is_private`. Whoever calls this sees to it that nobody uses the number otherwise.
pub(crate) fn place(fd: BorrowedFd<'_>, number: RawFd, is_private: bool) -> io::Result<()> {
    let flags = if is_private { O_CLOEXEC } else { 0 };
    // SAFETY: no memory is involved. The number is one of those that are kept for this.
    check(unsafe { dup3(fd.as_raw_fd(), number, flags) }).map(drop)
}

/// Closes a descriptor that came from the process that started this one.
pub(crate) fn close_inherited(number: RawFd) {
    // SAFETY: the caller has listed what is open and knows that no value here owns the number.
    unsafe { close(number) };
}

/// Makes reads and writes return at once.
pub(crate) fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no memory is involved.
    let flags = check(unsafe { fcntl(fd.as_raw_fd(), F_GETFL) })?;
    // SAFETY: as above.
    check(unsafe { fcntl(fd.as_raw_fd(), F_SETFL, flags | O_NONBLOCK) }).map(drop)
}

/// Leaves the session of the process that started this one, with its terminal.
pub(crate) fn leave_session() {
    // SAFETY: it has no arguments. It fails only where this is done already.
    unsafe { setsid() };
}

/// Gives this process a name of at most 15 bytes for `ps`.
pub(crate) fn set_name(name: &[u8; 16]) {
    // SAFETY: the kernel reads at most 16 bytes of it.
    unsafe { prctl(PR_SET_NAME, name.as_ptr()) };
}

/// Ignores what a terminal sends, and has `SIGTERM` and `SIGCHLD` come as reads of the descriptor
/// that is returned: 128 bytes each, the first four of them the number.
pub(crate) fn catch_signals() -> io::Result<OwnedFd> {
    for ignored in [SIGHUP, SIGINT, SIGPIPE] {
        // SAFETY: ignoring is no code of ours that could run at a bad moment.
        unsafe { signal(ignored, SIG_IGN) };
    }
    // SAFETY: whoever started this may have ignored it, and then children leave without a word.
    unsafe { signal(SIGCHLD, SIG_DFL) };
    let mut set = MaybeUninit::<SignalSet>::zeroed();
    // SAFETY: the set is as large as the C library's, and zeroed memory is a valid array.
    let set = unsafe {
        sigemptyset(set.as_mut_ptr());
        sigaddset(set.as_mut_ptr(), SIGTERM);
        sigaddset(set.as_mut_ptr(), SIGCHLD);
        set.assume_init()
    };
    // SAFETY: the set lives until the call returns; the old one is not asked for.
    check(unsafe { sigprocmask(SIG_SETMASK, &raw const set, std::ptr::null_mut()) })?;
    // SAFETY: as above.
    let fd = check(unsafe { signalfd(-1, &raw const set, O_CLOEXEC | O_NONBLOCK) })?;
    // SAFETY: the descriptor was just made and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The name of a network device as the kernel takes it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TapName([u8; NAME_SIZE]);

impl TapName {
    /// `None`: it is too long.
    pub(crate) fn new(name: &[u8]) -> Option<Self> {
        let mut bytes = [0; NAME_SIZE];
        // The last byte ends it.
        bytes[..NAME_SIZE - 1].get_mut(..name.len())?.copy_from_slice(name);
        Some(Self(bytes))
    }
}

/// Becomes another user, in no group but that of the same number, for good; still ends with its
/// parent. No other thread must have been started.
pub(crate) fn become_user(number: u32) -> io::Result<()> {
    // SAFETY: no memory is involved: there are no groups at the address.
    unsafe {
        check(setgroups(0, std::ptr::null()))?;
        check(setresgid(number, number, number))?;
        check(setresuid(number, number, number))?;
        check(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
    }
    // Becoming another user has undone it.
    die_with(std::os::unix::process::parent_id())
}

/// An empty file in memory, which everybody may open who has it.
pub(crate) fn memory_file() -> io::Result<File> {
    // SAFETY: the name ends with a zero byte.
    let fd = check(unsafe { memfd_create(c"smolvm".as_ptr(), MFD_CLOEXEC) })?;
    // SAFETY: the descriptor was just made and nobody else knows it.
    Ok(unsafe { File::from_raw_fd(fd) })
}

/// Moves the calling thread to a network namespace of its own, in which there is nothing.
pub(crate) fn enter_new_network() -> io::Result<()> {
    // SAFETY: no memory is involved; the network alone is no longer shared with other threads.
    check(unsafe { unshare(CLONE_NEWNET) }).map(drop)
}

/// Moves this process to a network namespace of its own, in which there is nothing; where it is not
/// root, to a user namespace as well, in which it is who it was. No other thread must have been
/// started.
pub(crate) fn enter_own_network() -> io::Result<()> {
    // SAFETY: these have no arguments and cannot fail.
    let (user, group) = unsafe { (geteuid(), getegid()) };
    if user == 0 {
        return enter_new_network();
    }
    // SAFETY: no memory is involved.
    check(unsafe { unshare(CLONE_NEWUSER | CLONE_NEWNET) })?;
    // Who may not give groups up may be put into a group of its own (`user_namespaces(7)`).
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{user} {user} 1"))?;
    fs::write("/proc/self/gid_map", format!("{group} {group} 1"))
}

/// The number of the user that this process is.
pub(crate) fn user() -> u32 {
    // SAFETY: it has no arguments and cannot fail.
    unsafe { geteuid() }
}

/// Does something in the network namespace of another process.
pub(crate) fn in_network_of<T: Send>(
    process: u32,
    action: impl FnOnce() -> T + Send,
) -> io::Result<T> {
    let network = File::open(format!("/proc/{process}/ns/net"))?;
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            // SAFETY: no memory is involved; this thread ends before it does anything else.
            check(unsafe { setns(network.as_raw_fd(), CLONE_NEWNET) })?;
            Ok(action())
        });
        inside.join().unwrap_or_else(|_| Err(io::Error::other("a thread has panicked")))
    })
}

fn check(result: c_int) -> io::Result<c_int> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
