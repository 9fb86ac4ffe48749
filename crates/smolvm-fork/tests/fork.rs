//! Real children, forked while other threads are busy.
#![allow(unsafe_code, clippy::unwrap_used, missing_docs, reason = "`fork(2)` is what is tested")]

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};

use smolvm_fork::{ForkMutex, Unshared};

/// Runs `child` in a forked child and returns whether it said so; a child that hangs is killed.
fn in_child(child: impl FnOnce() -> bool) -> bool {
    // SAFETY: the child makes system calls, locks what is free by design, and leaves by `_exit`.
    match unsafe { libc::fork() } {
        0 => {
            // SAFETY: a timer that kills, and the end: nothing of the parent's is run.
            unsafe { libc::alarm(20) };
            let status = i32::from(!child());
            // SAFETY: as above.
            unsafe { libc::_exit(status) }
        }
        child => {
            let mut status = 0;
            // SAFETY: waits for the very child.
            assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
            libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0
        }
    }
}

/// Starts a child that sleeps until it is killed.
fn sleeper() -> impl Drop {
    struct Sleeper(i32);
    impl Drop for Sleeper {
        fn drop(&mut self) {
            // SAFETY: a child that nobody has waited for yet.
            unsafe {
                libc::kill(self.0, libc::SIGKILL);
                libc::waitpid(self.0, std::ptr::null_mut(), 0);
            }
        }
    }
    // SAFETY: the child only sleeps and ends.
    match unsafe { libc::fork() } {
        // SAFETY: both are for children that do no more (signal-safety(7)).
        0 => unsafe {
            libc::sleep(60);
            libc::_exit(0)
        },
        child => Sleeper(child),
    }
}

/// Behaviour 31: a forked child does not keep the lock of a parent that closes its file.
#[test]
fn a_lock_is_free_once_its_holder_has_closed_it_whatever_children_live() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let held = Unshared::new(File::open(file.path()).unwrap());
    held.lock().unwrap();
    let shared = File::open(file.path()).unwrap();
    let _child = sleeper();
    assert!(shared.try_lock().is_err());
    drop(held);
    // The child may not have come to its handler yet.
    let free = (0..2000).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(5));
        shared.try_lock().is_ok()
    });
    assert!(free);
}

#[test]
fn the_other_side_of_a_socket_sees_its_end_whatever_children_live() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let ours = Unshared::new(ours);
    let _child = sleeper();
    (&*ours).write_all(b"x").unwrap();
    drop(ours);
    let mut read = Vec::new();
    theirs.read_to_end(&mut read).unwrap();
    assert_eq!(read, b"x");
}

#[test]
fn the_owner_in_the_child_may_use_and_close_what_is_no_longer_there() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let ours = Unshared::new(ours);
    assert!(in_child(move || {
        let refused = (&*ours).write(b"lost").is_err();
        drop(ours);
        refused
    }));
    theirs.set_nonblocking(true).unwrap();
    assert!((&theirs).read(&mut [0; 8]).is_ok_and(|count| count == 0), "nothing came, and its end");
}

/// A child never finds the mutex held, however busy the threads of its parent are with it.
#[test]
fn a_fork_mutex_is_free_in_every_child() {
    static COUNT: ForkMutex<u64> = ForkMutex::new(0);
    static DONE: AtomicBool = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !DONE.load(Ordering::Relaxed) {
                    *COUNT.lock() += 1;
                }
            });
        }
        let all = (0..200).all(|_| in_child(|| *COUNT.lock() < u64::MAX));
        DONE.store(true, Ordering::Relaxed);
        assert!(all);
    });
}
