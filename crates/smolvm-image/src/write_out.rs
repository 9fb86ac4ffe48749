//! [`begin`]: having the kernel write a part of a file to the disk, without waiting until it is
//! there.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd as _;

/// Begins to write a range of bytes of a file to the disk: an `fsync` later has less to wait for.
/// They stay in memory as well. Where the disk has more to do than it can note, this waits until
/// it has room for them.
///
/// This is `sync_file_range(2)`. `posix_fadvise(2)`, which has a safe call, would also give up the
/// memory.
#[expect(unsafe_code, reason = "neither `rustix` nor `nix` has a call for it")]
pub(crate) fn begin(file: &File, range: &Range<u64>) -> io::Result<()> {
    let number = |bytes: u64| i64::try_from(bytes).map_err(io::Error::other);
    let (start, count) = (number(range.start)?, number(range.end.saturating_sub(range.start))?);
    // SAFETY: the descriptor is open as long as `file` is borrowed, and there are no pointers.
    let failed = unsafe {
        libc::sync_file_range(file.as_raw_fd(), start, count, libc::SYNC_FILE_RANGE_WRITE)
    };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Seek as _, Write as _};

    use super::*;

    #[test]
    fn the_kernel_takes_a_range_and_the_bytes_stay() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 10_000]).unwrap();
        begin(&file, &(0..8192)).unwrap();
        begin(&file, &(8192..10_000)).unwrap();
        // Beyond the end there is nothing to write.
        begin(&file, &(20_000..30_000)).unwrap();
        file.rewind().unwrap();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, [7; 10_000]);
        assert!(begin(&file, &(0..u64::MAX)).is_err());
    }

    #[test]
    fn what_is_not_on_a_disk_is_refused() {
        let (_reader, writer) = io::pipe().unwrap();
        let writer = File::from(std::os::fd::OwnedFd::from(writer));
        assert!(begin(&writer, &(0..1)).is_err());
    }
}
