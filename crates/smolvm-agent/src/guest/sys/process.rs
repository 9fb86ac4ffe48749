//! Starting programs in process groups of their own, and the ends of those.
//!
//! The child shares the memory of its parent until it executes the program (`CLONE_VM`), and the
//! parent waits for that (`CLONE_VFORK`): no page table is copied, and what fails in the child is
//! simply written down for the parent.

use std::ffi::{CStr, CString, c_char, c_int, c_long, c_ulong, c_void};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, RawFd};
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::ptr;

use super::check;
use super::descriptor::{IoctlRequest, ioctl};
use super::signal::{self, Set};

/// A program to start.
#[derive(Debug)]
pub(crate) struct Launch<'a> {
    /// Files that may be the program: the first that can be executed is.
    pub(crate) programs: &'a [CString],
    /// Its arguments; the first is its name.
    pub(crate) arguments: &'a [CString],
    /// Its environment, each `NAME=value`.
    pub(crate) environment: &'a [CString],
    /// Directories to start it in: the first that can be entered is taken.
    pub(crate) directories: &'a [CString],
    /// Its standard input, output and error.
    pub(crate) streams: [BorrowedFd<'a>; 3],
    /// Whether its standard input becomes its controlling terminal.
    pub(crate) terminal: bool,
    /// Whom it runs as.
    pub(crate) credentials: &'a Credentials,
    /// What is given back to it of what the agent took for itself.
    pub(crate) restored: Restored,
}

/// Whom a program runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) user: u32,
    pub(crate) group: u32,
    /// The supplementary groups.
    pub(crate) groups: Vec<u32>,
}

/// What the agent took for itself alone.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Restored {
    /// The limit of open files, where it was raised.
    pub(crate) open_files: Option<Limit>,
    /// Whether the agent is not to be killed when memory runs out.
    pub(crate) oom_score: bool,
}

/// A program that could not be started.
#[derive(Debug)]
pub(crate) struct LaunchError {
    pub(crate) step: Step,
    pub(crate) error: io::Error,
}

/// What could not be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// To make a process.
    Process,
    /// To become the user.
    Credentials,
    /// To enter the directory.
    Directory,
    /// To take the terminal.
    Terminal,
    /// To execute the program.
    Execute,
}

/// A process that leads a group (and a session) of its own, which has the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProcessGroup(c_int);

/// `struct rlimit`: the limit, and how far a process may raise it itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Limit {
    soft: c_ulong,
    hard: c_ulong,
}

/// All that the child needs, without a single allocation of its own.
struct Plan {
    programs: Vec<*const c_char>,
    arguments: Vec<*const c_char>,
    environment: Vec<*const c_char>,
    directories: Vec<*const c_char>,
    streams: [RawFd; 3],
    terminal: bool,
    user: u32,
    group: u32,
    groups: Vec<u32>,
    restored: Restored,
    unblocked: Set,
    /// Written by the child: what failed, and how.
    failed: Option<(Step, c_int)>,
}

const SIGCHLD: c_int = signal::CHILD;
const ALL_SIGNALS: [c_int; 64] = all_signals();
const SIGPIPE: c_int = 13;
const RLIMIT_NOFILE: c_int = 7;

const fn all_signals() -> [c_int; 64] {
    let mut signals = [1; 64];
    let mut index = 1;
    while index < signals.len() {
        signals[index] = signals[index - 1] + 1;
        index += 1;
    }
    signals
}

unsafe extern "C" {
    fn clone(
        function: extern "C" fn(*mut c_void) -> c_int,
        stack: *mut c_void,
        flags: c_int,
        argument: *mut c_void,
        ...
    ) -> c_int;
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
    fn signalfd(fd: c_int, set: *const Set, flags: c_int) -> c_int;
    fn waitpid(process: c_int, status: *mut c_int, options: c_int) -> c_int;
    fn kill(process: c_int, signal: c_int) -> c_int;
    #[cfg(test)]
    fn fork() -> c_int;
    #[cfg(test)]
    fn unshare(what: c_int) -> c_int;
    #[cfg(test)]
    fn fcntl(fd: c_int, command: c_int, ...) -> c_int;
    fn getrlimit(resource: c_int, limit: *mut Limit) -> c_int;
    fn setrlimit(resource: c_int, limit: *const Limit) -> c_int;
}

/// The numbers of the system calls whose wrappers do more: they would change all threads of the C
/// library's process, which is still the parent's, or refuse some signals.
#[cfg(target_arch = "x86_64")]
mod number {
    use std::ffi::c_long;

    pub(super) const RT_SIGACTION: c_long = 13;
    pub(super) const SETUID: c_long = 105;
    pub(super) const SETGID: c_long = 106;
    pub(super) const SETGROUPS: c_long = 116;
}
#[cfg(target_arch = "aarch64")]
mod number {
    use std::ffi::c_long;

    pub(super) const RT_SIGACTION: c_long = 134;
    pub(super) const SETUID: c_long = 146;
    pub(super) const SETGID: c_long = 144;
    pub(super) const SETGROUPS: c_long = 159;
}

impl Launch<'_> {
    /// Starts the program.
    ///
    /// # Errors
    ///
    /// With the step that failed. There is no process then.
    pub(crate) fn start(&self) -> Result<ProcessGroup, LaunchError> {
        const CLONE_VM: c_int = 0x100;
        const CLONE_VFORK: c_int = 0x4000;
        const SIG_SETMASK: c_int = 2;
        /// More than any of the functions that the child calls needs.
        const STACK: usize = 64 * 1024 / size_of::<u128>();

        let mut plan = self.plan();
        let mut stack = Vec::<u128>::with_capacity(STACK);
        let everything = Set::of(&ALL_SIGNALS);
        let mut before = Set::of(&[]);
        // SAFETY: the pointers are to sets. No signal's handler may run in the child, which would
        // run it in the parent's memory.
        unsafe { sigprocmask(SIG_SETMASK, &raw const everything, &raw mut before) };
        // SAFETY: the child runs on memory of its own as a stack, whose upper end is aligned as
        // its elements are; the parent is suspended until the child has executed a program or
        // exited, so that the plan and all that it points to live, and are used by the child
        // alone. The child calls nothing but system calls (see `child`).
        let process = check(unsafe {
            let top = stack.as_mut_ptr().add(STACK);
            let plan = (&raw mut plan).cast::<c_void>();
            clone(child, top.cast::<c_void>(), CLONE_VM | CLONE_VFORK | SIGCHLD, plan)
        });
        // SAFETY: the first pointer is to a set, the second may be null.
        unsafe { sigprocmask(SIG_SETMASK, &raw const before, ptr::null_mut()) };

        let process = process.map_err(|error| LaunchError { step: Step::Process, error })?;
        // SAFETY: the pointer is to the plan; the child wrote to it, which the compiler cannot see.
        match unsafe { ptr::read_volatile(&raw const plan.failed) } {
            None => Ok(ProcessGroup(process)),
            Some((step, errno)) => {
                // It has exited, or is just about to.
                ProcessGroup(process).wait();
                Err(LaunchError { step, error: io::Error::from_raw_os_error(errno) })
            }
        }
    }

    fn plan(&self) -> Plan {
        let pointers = |strings: &[CString]| -> Vec<*const c_char> {
            let strings = strings.iter().map(|string| string.as_ptr());
            strings.chain([ptr::null()]).collect()
        };
        Plan {
            programs: pointers(self.programs),
            arguments: pointers(self.arguments),
            environment: pointers(self.environment),
            directories: pointers(self.directories),
            streams: self.streams.map(|stream| stream.as_raw_fd()),
            terminal: self.terminal,
            user: self.credentials.user,
            group: self.credentials.group,
            groups: self.credentials.groups.clone(),
            restored: self.restored,
            unblocked: Set::of(&[]),
            failed: None,
        }
    }
}

/// What the child does until it is another program. It shares its memory with the parent, so it
/// allocates nothing, cannot panic, and calls only thin wrappers of system calls.
extern "C" fn child(plan: *mut c_void) -> c_int {
    let plan = plan.cast::<Plan>();
    // SAFETY: the parent passed a pointer to a plan, and is suspended.
    let Err(failed) = prepare(unsafe { &*plan });
    // SAFETY: as above; nothing refers to the plan any more.
    unsafe {
        ptr::write_volatile(&raw mut (*plan).failed, Some(failed));
        _exit(127)
    }
}

fn prepare(plan: &Plan) -> Result<std::convert::Infallible, (Step, c_int)> {
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
        set_default_action(SIGPIPE);
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
            setrlimit(RLIMIT_NOFILE, limit);
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

/// Has the kernel do with a signal what it does by default. (The C library keeps some signals to
/// itself, and would refuse.)
fn set_default_action(signal: c_int) {
    /// `struct sigaction` of the kernel, of which zero is the default.
    const DEFAULT: [u64; 4] = [0; 4];
    const SET_LENGTH: usize = 8;
    let none = ptr::null_mut::<c_void>();
    // SAFETY: the pointers are to an action, and to none.
    unsafe { syscall(number::RT_SIGACTION, signal, DEFAULT.as_ptr(), none, SET_LENGTH) };
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

impl ProcessGroup {
    /// The number of the process and of its group.
    pub(crate) fn id(self) -> u32 {
        self.0.unsigned_abs()
    }

    /// Sends `signal` to every process of the group, if there is one left.
    pub(crate) fn signal(self, signal: u8) {
        // SAFETY: it takes two numbers. The group is never 0 or 1, which would be all processes.
        unsafe { kill(-self.0, c_int::from(signal)) };
    }

    /// Waits until the process has ended.
    pub(crate) fn wait(self) -> Option<ExitStatus> {
        wait(self.0, 0).map(|(_, status)| status)
    }

    /// A child that has ended, if one has.
    pub(crate) fn reap_any() -> Option<(Self, ExitStatus)> {
        const ANY: c_int = -1;
        const WNOHANG: c_int = 1;
        wait(ANY, WNOHANG)
    }
}

fn wait(process: c_int, options: c_int) -> Option<(ProcessGroup, ExitStatus)> {
    let mut status = 0;
    loop {
        // SAFETY: the pointer is to an `int`.
        match check(unsafe { waitpid(process, &raw mut status, options) }) {
            Ok(0) => return None,
            Ok(process) => return Some((ProcessGroup(process), ExitStatus::from_raw(status))),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
}

/// Has the process, and with it all that it starts, ignore no signal any more: what started it may
/// have ignored some. (That nobody reads what is written is an error here, and no signal.)
pub(crate) fn reset_ignored_signals() {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap_or_default();
    let ignored = u64::from_str_radix(ignored.trim(), 16).unwrap_or(0);
    for signal in ALL_SIGNALS {
        if signal != SIGPIPE && ignored >> (signal - 1) & 1 == 1 {
            set_default_action(signal);
        }
    }
}

/// Sends `signal` to the first process.
pub(crate) fn signal_first(signal: u8) {
    // SAFETY: it takes two numbers.
    unsafe { kill(1, c_int::from(signal)) };
}

/// A descriptor that can be read whenever a child has ended. The signal is blocked from now on.
pub(crate) fn watch_children() -> io::Result<File> {
    const NONBLOCK_CLOEXEC: c_int = 0o4000 | 0o2_000_000;
    let set = Set::of(&[SIGCHLD]);
    set.block();
    // SAFETY: the pointer is to a set; -1 asks for a new descriptor.
    let fd = check(unsafe { signalfd(-1, &raw const set, NONBLOCK_CLOEXEC) })?;
    // SAFETY: the descriptor is new, and nobody else's.
    Ok(unsafe { File::from_raw_fd(fd) })
}

/// Lets this process open as many files as the kernel lets any process. Returns the limit that
/// there was before.
pub(crate) fn raise_open_files() -> io::Result<Limit> {
    /// Half of the kernel's default for what any limit may be.
    const ENOUGH: c_ulong = 1 << 19;
    let mut before = Limit { soft: 0, hard: 0 };
    // SAFETY: the pointer is to a limit.
    check(unsafe { getrlimit(RLIMIT_NOFILE, &raw mut before) })?;
    let raised = Limit { soft: ENOUGH.max(before.soft), hard: ENOUGH.max(before.hard) };
    // SAFETY: the pointer is to a limit.
    check(unsafe { setrlimit(RLIMIT_NOFILE, &raw const raised) })?;
    Ok(before)
}

/// Runs `run` in a process of its own, which has `kept` and the standard streams open and nothing
/// else, and then ends. For tests, whose process has threads: the child has the calling one alone.
#[cfg(test)]
pub(crate) fn fork_for_test(kept: &File, run: impl FnOnce(File)) -> ProcessGroup {
    const KEPT: c_int = 3;
    const F_DUPFD_CLOEXEC: c_int = 1030;
    const CLOSE_RANGE: c_long = 436;
    // SAFETY: the C library makes its own locks usable in the child; the tests see to the rest.
    let process = check(unsafe { fork() }).unwrap();
    if process != 0 {
        return ProcessGroup(process);
    }
    // SAFETY: all take numbers. The descriptors that are closed have owners in the parent only:
    // those in the child are never dropped.
    let code = unsafe {
        setsid();
        dup2(kept.as_raw_fd(), KEPT);
        syscall(CLOSE_RANGE, c_ulong::from(KEPT.unsigned_abs() + 1), c_ulong::from(u32::MAX), 0);
        let kept = check(fcntl(KEPT, F_DUPFD_CLOEXEC, KEPT)).unwrap();
        syscall(
            CLOSE_RANGE,
            c_ulong::from(KEPT.unsigned_abs()),
            c_ulong::from(KEPT.unsigned_abs()),
            0,
        );
        let kept = File::from_raw_fd(kept);
        let run = std::panic::AssertUnwindSafe(|| run(kept));
        c_int::from(std::panic::catch_unwind(run).is_err())
    };
    // SAFETY: it takes a number. What the parent does at its exit is left to it.
    unsafe { _exit(code) }
}

/// Gives the calling process mounts, a network and a host name of its own. For tests.
#[cfg(test)]
pub(crate) fn unshare_for_test() -> io::Result<()> {
    const NEW_MOUNTS_NAME_NETWORK: c_int = 0x2_0000 | 0x400_0000 | 0x4000_0000;
    // SAFETY: it takes a number.
    check(unsafe { unshare(NEW_MOUNTS_NAME_NETWORK) })?;
    Ok(())
}
