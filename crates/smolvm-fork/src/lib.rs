//! What a process keeps from the children that it forks: [`Unshared`] files and sockets, and
//! [`ForkMutex`], which is free in the child.
//!
//! A child that is forked and runs no other program (Python's `os.fork` and `multiprocessing` make
//! such children) has every open file of its parent, but none of its threads. With a copy of a
//! locked file it would keep the lock of a parent that is gone, with a copy of a socket it would
//! keep the other side from seeing that end; and a mutex that another thread of the parent had
//! locked would stay locked in it for ever.
//!
//! ```
//! use smolvm_fork::Unshared;
//!
//! let file = Unshared::new(tempfile::tempfile()?);
//! file.lock()?;
//! // A child that is forked from here on has `/dev/null` in its place.
//! # Ok::<(), std::io::Error>(())
//! ```

mod hook;
mod mutex;
mod unshared;

pub use mutex::{ForkGuard, ForkMutex};
pub use unshared::{Hidden, Unshared};
