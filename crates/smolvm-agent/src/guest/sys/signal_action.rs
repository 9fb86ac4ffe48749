//! What the kernel does with a signal that nobody waits for.

use std::ffi::{c_int, c_long, c_void};
use std::fs;
use std::ptr;

/// All signals, as the kernel has them.
pub(super) const ALL_SIGNALS: [c_int; 64] = all_signals();

/// `SIGPIPE`, which `std` has the process ignore.
pub(super) const SIGPIPE: c_int = 13;

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
    fn syscall(number: c_long, ...) -> c_long;
}

/// Has the process, and with it all that it starts, ignore no signal any more: what started it may
/// have ignored some. (That nobody reads what is written is an error here, and no signal.)
pub(crate) fn reset_ignored() {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap_or_default();
    let ignored = u64::from_str_radix(ignored.trim(), 16).unwrap_or(0);
    for signal in ALL_SIGNALS {
        if signal != SIGPIPE && ignored >> (signal - 1) & 1 == 1 {
            set_default(signal);
        }
    }
}

/// Has the kernel do with a signal what it does by default. (The C library keeps some signals to
/// itself, and would refuse.)
pub(super) fn set_default(signal: c_int) {
    /// `struct sigaction` of the kernel, of which zero is the default.
    const DEFAULT: [u64; 4] = [0; 4];
    const SET_LENGTH: usize = 8;
    #[cfg(target_arch = "x86_64")]
    const RT_SIGACTION: c_long = 13;
    #[cfg(target_arch = "aarch64")]
    const RT_SIGACTION: c_long = 134;
    let none = ptr::null_mut::<c_void>();
    // SAFETY: the pointers are to an action, and to none.
    unsafe { syscall(RT_SIGACTION, signal, DEFAULT.as_ptr(), none, SET_LENGTH) };
}
