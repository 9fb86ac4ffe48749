//! What happens in the child until it is another program.

use std::convert::Infallible;
use std::ffi::{CStr, c_char, c_int, c_long, c_ulong, c_void};
use std::io;
use std::os::fd::RawFd;
use std::ptr;

use super::super::descriptor::{IoctlRequest, ioctl};
use super::super::signal::Set;
use super::super::signal_action::{self, SIGPIPE};
use super::{Restored, Step};

/// All that the child needs, without a single allocation of its own.
pub(super) struct Plan {
    pub(super) programs: Vec<*const c_char>,
    pub(super) arguments: Vec<*const c_char>,
    pub(super) environment: Vec<*const c_char>,
    pub(super) directories: Vec<*const c_char>,
    pub(super) streams: [RawFd; 3],
    pub(super) terminal: bool,
    pub(super) user: u32,
    pub(super) group: u32,
    pub(super) groups: Vec<u32>,
    pub(super) restored: Restored,
    pub(super) unblocked: Set,
    /// Written by the child: what failed, and how.
    pub(super) failed: Option<(Step, c_int)>,
}

unsafe extern "C" {
    fn _exit(code: c_int) -> !;
    fn execve(
        program: *const c_char,
        arguments: *const *const c_char,
        environment: *const *const c_char,
    ) -> c_int;
    fn access(path: *const c_char, mode: c_int) -> c_int;
    fn setsid() -> c_int;
    fn dup2(from: c_int, to: c_int) -> c_int;
    fn chdir(path: *const c_char) -> c_int;
    fn open(path: *const c_char, flags: c_int, ...) -> c_int;
    fn write(fd: c_int, bytes: *const c_void, count: usize) -> isize;
    fn syscall(number: c_long, ...) -> c_long;
    fn sigprocmask(how: c_int, set: *const Set, old: *mut Set) -> c_int;
}

/// The numbers of the system calls whose wrappers would change all threads of the C library's
/// process, which is still the parent's.
#[cfg(target_arch = "x86_64")]
mod number {
    use std::ffi::c_long;

    pub(super) const SETUID: c_long = 105;
    pub(super) const SETGID: c_long = 106;
    pub(super) const SETGROUPS: c_long = 116;
}
#[cfg(target_arch = "aarch64")]
mod number {
    use std::ffi::c_long;

    pub(super) const SETUID: c_long = 146;
    pub(super) const SETGID: c_long = 144;
    pub(super) const SETGROUPS: c_long = 159;
}

/// What the child does until it is another program. It shares its memory with the parent, so it
/// allocates nothing, cannot panic, and calls only thin wrappers of system calls.
pub(super) extern "C" fn run(plan: *mut c_void) -> c_int {
    let plan = plan.cast::<Plan>();
    // SAFETY: the parent passed a pointer to a plan, and is suspended.
    let Err(failed) = prepare(unsafe { &*plan });
    // SAFETY: as above; nothing refers to the plan any more.
    unsafe {
        ptr::write_volatile(&raw mut (*plan).failed, Some(failed));
        _exit(127)
    }
}

fn prepare(plan: &Plan) -> Result<Infallible, (Step, c_int)> {
    const TIOCSCTTY: IoctlRequest = 0x540e;
    const SIG_SETMASK: c_int = 2;

    // SAFETY: all of these take numbers, or pointers to what the plan owns; the strings end with
    // NUL and the lists with null.
    unsafe {
        setsid();
        for (stream, to) in plan.streams.iter().zip(0..) {
            step(Step::Process, dup2(*stream, to))?;
        }
        if plan.terminal {
            step(Step::Terminal, ioctl(0, TIOCSCTTY, 0))?;
        }
        restore(&plan.restored);
        // As `subprocess` has it: the directory need not be one that the user may enter.
        enter(&plan.directories)?;
        if plan.user != 0 || plan.group != 0 || !plan.groups.is_empty() {
            let groups = plan.groups.as_ptr();
            long_step(syscall(number::SETGROUPS, plan.groups.len(), groups))?;
            long_step(syscall(number::SETGID, c_ulong::from(plan.group)))?;
            long_step(syscall(number::SETUID, c_ulong::from(plan.user)))?;
        }
        signal_action::set_default(SIGPIPE);
        sigprocmask(SIG_SETMASK, &raw const plan.unblocked, ptr::null_mut());
        Err((Step::Execute, execute(plan)))
    }
}

/// Gives back what the agent took for itself. Nothing depends on it.
///
/// # Safety
///
/// To be called in the child.
unsafe fn restore(restored: &Restored) {
    const WRITE_CLOEXEC: c_int = 1 | 0o2_000_000;
    const PATH: &CStr = c"/proc/self/oom_score_adj";

    // SAFETY: the pointers are to a limit, a string that ends with NUL, and one byte.
    unsafe {
        if let Some(limit) = &restored.open_files {
            limit.set();
        }
        if restored.oom_score {
            // It is closed when the program is executed.
            let fd = open(PATH.as_ptr(), WRITE_CLOEXEC);
            if fd >= 0 {
                write(fd, b"0".as_ptr().cast::<c_void>(), 1);
            }
        }
    }
}

/// Enters the first directory that can be entered.
///
/// # Safety
///
/// The list ends with null, and its strings with NUL.
unsafe fn enter(directories: &[*const c_char]) -> Result<(), (Step, c_int)> {
    let mut result = Ok(());
    for &directory in directories.iter().take_while(|directory| !directory.is_null()) {
        // SAFETY: the caller vouches for the string.
        match step(Step::Directory, unsafe { chdir(directory) }) {
            Ok(()) => return Ok(()),
            // The first one was asked for.
            failed => result = result.and(failed),
        }
    }
    result
}

/// Executes the first program that there is. As `execvp` has it: one that may not be executed is
/// what is reported if there is no other, and any other error ends the search.
///
/// # Safety
///
/// The lists of the plan end with null, and their strings with NUL.
unsafe fn execute(plan: &Plan) -> c_int {
    const F_OK: c_int = 0;
    const ENOENT: c_int = 2;
    const EACCES: c_int = 13;
    /// `ENODEV`, `ENOTDIR`, `ENAMETOOLONG`, `ELOOP`, `ETIMEDOUT`, `ESTALE`: not there.
    const ABSENT: [c_int; 7] = [ENOENT, 19, 20, 36, 40, 110, 116];

    let mut result = ENOENT;
    for &program in plan.programs.iter().take_while(|program| !program.is_null()) {
        // SAFETY: the caller vouches for the lists and strings.
        unsafe {
            // The kernel prepares much before it finds that there is no such program.
            if access(program, F_OK) == 0 {
                execve(program, plan.arguments.as_ptr(), plan.environment.as_ptr());
            }
        }
        match errno() {
            EACCES => result = EACCES,
            absent if ABSENT.contains(&absent) => {}
            error => return error,
        }
    }
    result
}

fn step(step: Step, result: c_int) -> Result<(), (Step, c_int)> {
    if result == -1 { Err((step, errno())) } else { Ok(()) }
}

fn long_step(result: c_long) -> Result<(), (Step, c_int)> {
    if result == -1 { Err((Step::Credentials, errno())) } else { Ok(()) }
}

fn errno() -> c_int {
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}
