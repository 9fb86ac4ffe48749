//! The kernel's random numbers (`random(4)`).

use std::ffi::c_int;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsRawFd as _;

use super::check;
use super::descriptor::{IoctlRequest, ioctl};

/// The most bytes that are taken at once.
const MOST: usize = 256;

/// `struct rand_pool_info`, with room for [`MOST`] bytes.
#[repr(C)]
struct Pool {
    entropy_bits: c_int,
    size: c_int,
    bytes: [u8; MOST],
}

const RNDADDENTROPY: IoctlRequest = 0x4008_5203;
const RNDRESEEDCRNG: IoctlRequest = 0x5207;

/// Mixes `seed` into the kernel's random numbers, and has the next ones made of that.
pub(crate) fn reseed(seed: &[u8]) -> io::Result<()> {
    let device = OpenOptions::new().read(true).write(true).open("/dev/urandom")?;
    for part in seed.chunks(MOST) {
        let size = c_int::try_from(part.len()).unwrap_or(0);
        let mut pool = Pool { entropy_bits: size * 8, size, bytes: [0; MOST] };
        pool.bytes[..part.len()].copy_from_slice(part);
        // SAFETY: the request reads a `struct rand_pool_info` from the pointer, and as many bytes
        // after it as that says, which are there.
        check(unsafe { ioctl(device.as_raw_fd(), RNDADDENTROPY, &raw const pool) })?;
    }
    // SAFETY: the request takes no argument.
    match check(unsafe { ioctl(device.as_raw_fd(), RNDRESEEDCRNG) }) {
        // A kernel before 4.17 does not know it: it takes what was added after a while.
        Err(error) if matches!(error.raw_os_error(), Some(EINVAL | ENODATA)) => Ok(()),
        result => result.map(drop),
    }
}

const EINVAL: i32 = 22;
/// The kernel has not had enough random numbers to begin with; it makes no others before.
const ENODATA: i32 = 61;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_takes_a_seed() {
        // More than goes at once. Whoever may not is told.
        match reseed(&[7; MOST + 1]) {
            Ok(()) => {}
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error}"),
        }
    }
}
