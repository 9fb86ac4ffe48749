//! The times of files that cannot be opened.

use std::ffi::{c_char, c_int, c_long};
use std::io;
use std::path::Path;

use super::{c_path, check};

/// `struct timespec` of the 64-bit platforms.
#[repr(C)]
struct Timespec {
    seconds: i64,
    nanoseconds: c_long,
}

unsafe extern "C" {
    fn utimensat(
        directory: c_int,
        path: *const c_char,
        times: *const [Timespec; 2],
        flags: c_int,
    ) -> c_int;
}

/// Sets when the symbolic link at `path` was changed, in seconds since 1970.
pub(crate) fn set_of_link(path: &Path, modified: u64) -> io::Result<()> {
    const AT_FDCWD: c_int = -100;
    const AT_SYMLINK_NOFOLLOW: c_int = 0x100;
    const UTIME_OMIT: c_long = (1 << 30) - 2;
    let path = c_path(path)?;
    let seconds = i64::try_from(modified).unwrap_or(i64::MAX);
    let times =
        [Timespec { seconds: 0, nanoseconds: UTIME_OMIT }, Timespec { seconds, nanoseconds: 0 }];
    // SAFETY: the pointers are to a string that ends with NUL, and to two times.
    check(unsafe { utimensat(AT_FDCWD, path.as_ptr(), &raw const times, AT_SYMLINK_NOFOLLOW) })?;
    Ok(())
}
