//! Starting programs in process groups of their own.
//!
//! The child shares the memory of its parent until it executes the program (`CLONE_VM`), and the
//! parent waits for that (`CLONE_VFORK`): no page table is copied, and what fails in the child is
//! simply written down for the parent.

use std::ffi::{CString, c_char, c_int, c_void};
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::ptr;

mod child;

use child::Plan;

use super::check;
use super::open_files::Limit;
use super::process::ProcessGroup;
use super::signal::{self, Set};
use super::signal_action::ALL_SIGNALS;

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

unsafe extern "C" {
    fn clone(
        function: extern "C" fn(*mut c_void) -> c_int,
        stack: *mut c_void,
        flags: c_int,
        argument: *mut c_void,
        ...
    ) -> c_int;
    fn sigprocmask(how: c_int, set: *const Set, old: *mut Set) -> c_int;
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
        // alone. The child calls nothing but system calls (see [`child`]).
        let process = check(unsafe {
            let top = stack.as_mut_ptr().add(STACK);
            let plan = (&raw mut plan).cast::<c_void>();
            clone(child::run, top.cast::<c_void>(), CLONE_VM | CLONE_VFORK | signal::CHILD, plan)
        });
        // SAFETY: the first pointer is to a set, the second may be null.
        unsafe { sigprocmask(SIG_SETMASK, &raw const before, ptr::null_mut()) };

        let process = process.map_err(|error| LaunchError { step: Step::Process, error })?;
        let group = ProcessGroup::led_by(process);
        // SAFETY: the pointer is to the plan; the child wrote to it, which the compiler cannot see.
        match unsafe { ptr::read_volatile(&raw const plan.failed) } {
            None => Ok(group),
            Some((step, errno)) => {
                // It has exited, or is just about to.
                group.wait();
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
