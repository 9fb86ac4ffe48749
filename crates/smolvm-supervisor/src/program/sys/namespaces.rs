//! Namespaces (`namespaces(7)`): the first process of one, what a jail has of its own, and a mapping
//! of users for the files in it.

use std::ffi::{c_char, c_int};
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::process::{Child, Command};

use super::{CLONE_NEWNET, CLONE_NEWUSER, SIGKILL, check, setns, unshare};

const CLONE_NEWNS: c_int = 0x0002_0000;
const CLONE_NEWUTS: c_int = 0x0400_0000;
const CLONE_NEWIPC: c_int = 0x0800_0000;
const CLONE_NEWPID: c_int = 0x2000_0000;

unsafe extern "C" {
    fn fork() -> c_int;
    fn pause() -> c_int;
    fn readlink(path: *const c_char, target: *mut c_char, size: usize) -> isize;
    fn kill(process: c_int, signal: c_int) -> c_int;
    fn waitpid(process: c_int, status: *mut c_int, options: c_int) -> c_int;
    fn _exit(status: c_int) -> !;
}

/// Starts a program as the first process of a new namespace of processes: when it ends, the kernel
/// ends everything in there.
pub(crate) fn spawn_init(command: &mut Command) -> io::Result<Child> {
    let own = File::open("/proc/self/ns/pid")?;
    // SAFETY: no memory is involved; this process stays where it is, its next child does not.
    check(unsafe { unshare(CLONE_NEWPID) })?;
    let child = command.spawn();
    // SAFETY: no memory is involved. Later children are beside this process again.
    check(unsafe { setns(own.as_raw_fd(), CLONE_NEWPID) })?;
    child
}

/// Gives this process mounts, message queues and a host name of its own, and, if it is to have one,
/// a network in which there is nothing. No other thread must have been started.
pub(crate) fn enter_jail(has_own_network: bool) -> io::Result<()> {
    let network = if has_own_network { CLONE_NEWNET } else { 0 };
    // SAFETY: no memory is involved.
    check(unsafe { unshare(CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | network) }).map(drop)
}

/// A namespace of users in which one user and one group are others, for a mount.
#[derive(Debug)]
pub(crate) struct UserMap(File);

impl UserMap {
    /// One in which files of `owner` (a user and a group) are those of the user and the group `user`.
    /// No other thread must have been started.
    pub(crate) fn new(owner: (u32, u32), user: u32) -> io::Result<Self> {
        let (mut ready, mut tell) = io::pipe()?;
        // SAFETY: there is no other thread, so that the child has all of this process's memory as
        // it should be; it calls nothing that allocates, and never returns.
        let child = check(unsafe { fork() })?;
        if child == 0 {
            // SAFETY: the path ends with a zero byte, and the length is that of the array. The child
            // is killed as soon as it is needed no more.
            unsafe {
                let mut name = [0_u8; 16];
                let length = readlink(c"/proc/self".as_ptr(), name.as_mut_ptr().cast(), name.len());
                let name = usize::try_from(length).ok().and_then(|length| name.get(..length));
                let Some(name) = name.filter(|_| unshare(CLONE_NEWUSER) == 0) else { _exit(1) };
                if tell.write(name).is_err() {
                    _exit(1);
                }
                loop {
                    pause();
                }
            }
        }
        drop(tell);
        let made = (|| {
            // Its number as `/proc` has it, which may show another namespace of processes.
            let mut name = [0; 16];
            let length = ready.read(&mut name)?;
            let child = std::str::from_utf8(&name[..length]).unwrap_or_default();
            if child.is_empty() {
                return Err(io::Error::other("this kernel makes no namespace of users"));
            }
            for (map, owner) in [("uid_map", owner.0), ("gid_map", owner.1)] {
                fs::write(format!("/proc/{child}/{map}"), format!("{owner} {user} 1"))?;
            }
            File::open(format!("/proc/{child}/ns/user"))
        })();
        // SAFETY: the child is this process's own and has not been waited for; there is no status
        // at the address.
        unsafe {
            kill(child, SIGKILL);
            waitpid(child, std::ptr::null_mut(), 0);
        }
        made.map(Self)
    }

    pub(super) fn file(&self) -> &File {
        &self.0
    }
}
