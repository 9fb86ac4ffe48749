//! What happens when this process forks (`pthread_atfork(3)`): what is hidden is replaced in the
//! child, and no [`ForkMutex`](crate::ForkMutex) is held meanwhile.

use std::cell::RefCell;
use std::fs::File;
use std::os::fd::{AsRawFd as _, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Held for writing by who forks, for reading by who must not be interrupted by that.
static FORKING: RwLock<()> = RwLock::new(());

static HIDDEN: Mutex<Descriptors> = Mutex::new(Descriptors { hidden: Vec::new(), null: None });

thread_local! {
    /// What the forking thread holds from before the fork until after it, on both sides of it.
    static HELD: RefCell<Option<RwLockWriteGuard<'static, ()>>> = const { RefCell::new(None) };
}

struct Descriptors {
    hidden: Vec<RawFd>,
    /// `/dev/null`, opened early: a child may not be able to open anything.
    null: Option<File>,
}

/// Keeps every thread from forking until it is dropped.
pub(crate) fn keep_from_forking() -> RwLockReadGuard<'static, ()> {
    FORKING.read().unwrap_or_else(PoisonError::into_inner)
}

/// Has a descriptor replaced in children.
pub(crate) fn hide(descriptor: RawFd) {
    let _no_fork = keep_from_forking();
    let mut descriptors = descriptors();
    if descriptors.null.is_none() {
        // Without it, the descriptor stays shared with children, as any other one does.
        descriptors.null = File::options().read(true).write(true).open("/dev/null").ok();
    }
    descriptors.hidden.push(descriptor);
}

/// Ends that.
pub(crate) fn show(descriptor: RawFd) {
    let _no_fork = keep_from_forking();
    let mut descriptors = descriptors();
    if let Some(index) = descriptors.hidden.iter().position(|&hidden| hidden == descriptor) {
        descriptors.hidden.swap_remove(index);
    }
}

fn descriptors() -> MutexGuard<'static, Descriptors> {
    HIDDEN.lock().unwrap_or_else(PoisonError::into_inner)
}

// Before anything else of this program or library runs: a thread that did it on first use could be
// in the middle of that when another one forks, and the child would find neither handlers nor a way
// to have them.
ctor::declarative::ctor! {
    #[ctor(unsafe)]
    #[allow(unsafe_code, reason = "`pthread_atfork` takes functions that C calls")]
    fn install() {
        // SAFETY: the three functions are there for as long as the program: a library with them is
        // not unloaded, since it has static data with destructors. They do not unwind.
        let failed = unsafe { libc::pthread_atfork(Some(before), Some(in_parent), Some(in_child)) };
        debug_assert_eq!(failed, 0, "there is no memory for it");
    }
}

extern "C" fn before() {
    let held = FORKING.write().unwrap_or_else(PoisonError::into_inner);
    // Where the thread is ending already, the lock is let go: the fork is not guarded then.
    let _ = HELD.try_with(|slot| slot.try_borrow_mut().map(|mut slot| *slot = Some(held)));
}

extern "C" fn in_parent() {
    let _ = HELD.try_with(|slot| slot.try_borrow_mut().map(|mut slot| slot.take()));
}

extern "C" fn in_child() {
    // Nobody holds it: who does, holds `FORKING` too.
    if let Ok(descriptors) = HIDDEN.try_lock()
        && let Some(null) = &descriptors.null
    {
        descriptors.hidden.iter().for_each(|&hidden| replace(hidden, null));
    }
    in_parent();
}

/// Lets a descriptor lead elsewhere. Its owner, who is still there, may use and close it.
#[allow(unsafe_code, reason = "the descriptor is known by its number alone")]
fn replace(descriptor: RawFd, by: &File) {
    // SAFETY: both are open: a descriptor is hidden by its owner and shown before it is closed.
    // The call is one of those that a child may make (signal-safety(7)).
    unsafe { libc::dup3(by.as_raw_fd(), descriptor, libc::O_CLOEXEC) };
}
