//! The guest's clocks.

use std::ffi::c_int;
use std::io;
use std::time::Duration;

use super::check;

/// `struct timespec` of the 64-bit platforms.
#[repr(C)]
struct Timespec {
    seconds: i64,
    nanoseconds: i64,
}

unsafe extern "C" {
    fn clock_gettime(clock: c_int, time: *mut Timespec) -> c_int;
    fn clock_settime(clock: c_int, time: *const Timespec) -> c_int;
}

/// How long the kernel has run.
pub(crate) fn uptime() -> Duration {
    const CLOCK_BOOTTIME: c_int = 7;
    let mut time = Timespec { seconds: 0, nanoseconds: 0 };
    // SAFETY: the pointer is to a time. Linux has had this clock since 2.6.39; without it the time
    // stays zero.
    unsafe { clock_gettime(CLOCK_BOOTTIME, &raw mut time) };
    let seconds = u64::try_from(time.seconds).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.nanoseconds).unwrap_or(0))
}

/// Sets the clock to this time since 1970.
pub(crate) fn set(since_1970: Duration) -> io::Result<()> {
    const CLOCK_REALTIME: c_int = 0;
    let time = Timespec {
        seconds: i64::try_from(since_1970.as_secs()).unwrap_or(i64::MAX),
        nanoseconds: since_1970.subsec_nanos().into(),
    };
    // SAFETY: the pointer is to a time.
    check(unsafe { clock_settime(CLOCK_REALTIME, &raw const time) })?;
    Ok(())
}
