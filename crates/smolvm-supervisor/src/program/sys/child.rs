//! What a child is prepared with between fork and exec: descriptors, namespaces, limits, another
//! user, and an end with its parent.

use std::ffi::{c_char, c_int, c_ulong};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use super::interfaces::become_tap;
use super::{
    CLONE_NEWNET, CLONE_NEWUSER, IFF_TAP_PLAIN, O_CLOEXEC, PR_SET_NO_NEW_PRIVS, PR_SET_PDEATHSIG,
    SIG_DFL, SIG_IGN, SIG_SETMASK, SIGHUP, SIGINT, SIGKILL, SIGPIPE, SignalSet, TapName, check,
    fcntl, getppid, prctl, setgroups, setns, setresgid, setresuid, signal, sigprocmask,
};

/// `struct rlimit` of 64-bit Linux.
#[repr(C)]
struct Limit {
    soft: u64,
    hard: u64,
}

const SIGXFSZ: c_int = 25;
const F_SETFD: c_int = 2;
const O_RDWR: c_int = 2;

const RLIMIT_FSIZE: c_int = 1;
const RLIMIT_CORE: c_int = 4;
const RLIMIT_NOFILE: c_int = 7;

unsafe extern "C" {
    fn getrlimit(resource: c_int, limit: *mut Limit) -> c_int;
    fn setrlimit(resource: c_int, limit: *const Limit) -> c_int;
    fn open(path: *const c_char, flags: c_int, ...) -> c_int;
    fn write(fd: c_int, bytes: *const c_char, count: usize) -> isize;
    fn dup2(old: c_int, new: c_int) -> c_int;
}

/// What a child is to be besides a copy of this process that executes something else.
#[derive(Debug, Default)]
pub(crate) struct Preparation {
    /// Descriptors and the numbers that they have in the child. They are numbered higher here than
    /// any of these.
    pub(crate) handed: Vec<(OwnedFd, RawFd)>,
    /// The numbers of open descriptors that it inherits.
    pub(crate) files: std::ops::Range<RawFd>,
    /// The user namespace that it is in, where that is another.
    pub(crate) users: Option<OwnedFd>,
    /// The network namespace that it is in.
    pub(crate) network: Option<OwnedFd>,
    /// A tap device of that namespace, and the number of the descriptor that it becomes.
    pub(crate) tap: Option<(TapName, RawFd)>,
    /// The user that it runs as, and the groups that it is in besides that of the same number.
    pub(crate) user: Option<(u32, Vec<u32>)>,
    /// What puts whoever writes `0` to it into a cgroup.
    pub(crate) group: Option<OwnedFd>,
    /// How long the files may become that it writes, in bytes.
    pub(crate) file_size: Option<u64>,
    /// How many files it may have open, if it may not have fewer already.
    pub(crate) open_files: Option<u64>,
    /// Whether it is the first process of its namespace, from which it does not see its parent.
    pub(crate) is_init: bool,
}

/// Has the kernel kill the child when this thread ends, whatever ends it; gives the child the
/// usual reactions to signals, and what it is to have.
pub(crate) fn prepare_child(command: &mut Command, preparation: Preparation) {
    let supervisor = std::process::id();
    let Preparation {
        handed,
        files,
        users,
        network,
        tap,
        user,
        group,
        file_size,
        open_files,
        is_init,
    } = preparation;
    // Whoever is the first of a namespace learns from its line when its parent is gone.
    let parent = if is_init { 0 } else { supervisor };
    let prepare = move || {
        // SAFETY: none of these calls involves memory that is shared with the other process, takes
        // a lock or allocates; all are allowed between fork and exec.
        unsafe {
            for number in [SIGHUP, SIGINT, SIGPIPE] {
                signal(number, SIG_DFL);
            }
            let none: SignalSet = [0; 16];
            check(sigprocmask(SIG_SETMASK, &raw const none, std::ptr::null_mut()))?;
            if let Some(group) = &group
                && write(group.as_raw_fd(), c"0".as_ptr(), 1) != 1
            {
                return Err(io::Error::last_os_error());
            }
            // What is allowed to enter the other, there.
            if let Some(users) = &users {
                check(setns(users.as_raw_fd(), CLONE_NEWUSER))?;
            }
            if let Some(network) = &network {
                check(setns(network.as_raw_fd(), CLONE_NEWNET))?;
            }
            for (fd, number) in &handed {
                check(dup2(fd.as_raw_fd(), *number))?;
            }
            if let Some((name, number)) = &tap {
                open_tap(name, *number)?;
            }
            for file in files.clone() {
                check(fcntl(file, F_SETFD, 0))?;
            }
            if let Some(bytes) = file_size {
                // A guest whose disk grows no more is told so; its VMM is not killed for it.
                signal(SIGXFSZ, SIG_IGN);
                check(setrlimit(RLIMIT_FSIZE, &Limit { soft: bytes, hard: bytes }))?;
            }
            if let Some(count) = open_files {
                let mut limit = Limit { soft: 0, hard: 0 };
                check(getrlimit(RLIMIT_NOFILE, &raw mut limit))?;
                let limit = Limit { soft: limit.soft.min(count), hard: limit.hard.min(count) };
                check(setrlimit(RLIMIT_NOFILE, &raw const limit))?;
            }
            // What it has of a guest's memory is not for the disk.
            check(setrlimit(RLIMIT_CORE, &Limit { soft: 0, hard: 0 }))?;
            if let Some((number, groups)) = &user {
                check(setgroups(groups.len(), groups.as_ptr()))?;
                check(setresgid(*number, *number, *number))?;
                check(setresuid(*number, *number, *number))?;
            }
            // After that, for becoming another user would undo it.
            die_with(parent)?;
            check(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)).map(drop)?;
        }
        Ok(())
    };
    // SAFETY: what the closure does is allowed between fork and exec, as said in it.
    unsafe { command.pre_exec(prepare) };
}

/// Has the kernel kill the child when this thread ends, whatever ends it.
pub(crate) fn end_with_parent(command: &mut Command) {
    let parent = std::process::id();
    // SAFETY: two system calls without memory are allowed between fork and exec.
    unsafe { command.pre_exec(move || die_with(parent)) };
}

/// Has the kernel kill this process when its parent ends; `parent` is its number in this process's
/// namespace, where it has one.
pub(super) fn die_with(parent: u32) -> io::Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { prctl(PR_SET_PDEATHSIG, c_ulong::from(SIGKILL.unsigned_abs())) })?;
    // It may have ended before that.
    // SAFETY: it has no arguments and cannot fail.
    if u32::try_from(unsafe { getppid() }) == Ok(parent) {
        Ok(())
    } else {
        Err(io::Error::from(io::ErrorKind::BrokenPipe))
    }
}

/// Opens a tap device that exists as the descriptor of this number, with the header before each
/// frame that VMMs ask for. Allocates nothing.
fn open_tap(name: &TapName, number: RawFd) -> io::Result<()> {
    // SAFETY: the path ends with a zero byte.
    let tun = check(unsafe { open(c"/dev/net/tun".as_ptr(), O_RDWR | O_CLOEXEC) })?;
    become_tap(tun, *name, IFF_TAP_PLAIN)?;
    // SAFETY: the descriptor was just made and nobody else knows it.
    check(unsafe { dup2(tun, number) }).map(drop)
}
