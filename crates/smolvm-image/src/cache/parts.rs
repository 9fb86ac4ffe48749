//! [`Parts`]: a partial file that is written to in several places, and the log of what there is of
//! it.
//!
//! What no entry of the log tells of is zeros, or about to be written by the one who has claimed
//! it: so blocks of zeros can be left out. What an entry tells of is never written to again: so what
//! was read from there for the hash is what stays there.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{FallocateFlags, Mode};

use super::dir::{self, Dir};
use super::ranges::Ranges;
use crate::digest::Digest;
use crate::holes;

/// A log that is larger, in bytes, is none of ours.
const MAX_LOG: u64 = 16 << 20;

/// Bytes of an entry: where a part begins and ends, and what shows that the entry is whole.
const ENTRY: usize = 24;

/// The parts of a file that are there. Several threads write to it, each where nobody else does.
#[derive(Debug)]
pub(crate) struct Parts {
    file: File,
    log: Mutex<Log>,
}

#[derive(Debug)]
struct Log {
    file: File,
    ranges: Ranges,
}

impl Parts {
    /// Begins a log, in the place of an earlier one, of a file of which these parts are there.
    pub(super) fn create(
        file: File,
        dir: &Dir,
        name: &str,
        mode: Mode,
        ranges: Ranges,
    ) -> io::Result<Self> {
        let temporary = format!("{name}.new");
        dir.unlink(&temporary)?;
        let mut log = dir.create_new(&temporary, mode)?;
        let entries: Vec<u8> = ranges.iter().flat_map(|range| entry(&range)).collect();
        log.write_all(&entries)?;
        dir.rename(&temporary, dir, name)?;
        Ok(Self { file, log: Mutex::new(Log { file: log, ranges }) })
    }

    /// Writes bytes to a place where there are none, blocks of zeros as holes, and notes that they
    /// are there. After an error nobody may write there again.
    pub(crate) fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let range = offset..offset + bytes.len() as u64;
        if self.missing(range.clone()) != [range.clone()] {
            return Err(io::Error::other("a part was about to be written twice"));
        }
        holes::put(&self.file, bytes, offset)?;
        // The entry comes last: whoever is killed in between leaves bytes that nobody counts on.
        let mut log = self.log();
        log.file.write_all(&entry(&range))?;
        log.ranges.insert(range);
        Ok(())
    }

    /// Reads what is there from a position on; 0 where nothing is.
    pub(crate) fn read(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let there = self.end_at(position).map_or(0, |end| end - position);
        let most = usize::try_from(there).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        match self.file.read_at(&mut buffer[..most], position)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => Ok(count),
        }
    }

    /// Where the part ends that has the byte at a position.
    pub(crate) fn end_at(&self, position: u64) -> Option<u64> {
        self.log().ranges.end_at(position)
    }

    /// What is not there, within a range.
    pub(crate) fn missing(&self, within: Range<u64>) -> Vec<Range<u64>> {
        self.log().ranges.missing(within)
    }

    /// Bytes that are there.
    pub(crate) fn total(&self) -> u64 {
        self.log().ranges.total()
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads what a log tells of, up to an entry that was written in part. One that somebody else
/// could have written tells nothing.
pub(super) fn read_log(dir: &Dir, name: &str) -> Ranges {
    let mut ranges = Ranges::default();
    let read = || -> io::Result<Option<Vec<u8>>> {
        let Some(file) = dir.open_file(name)? else { return Ok(None) };
        let stat = rustix::fs::fstat(&file)?;
        if !dir::is_own(&stat) || Mode::from_raw_mode(stat.st_mode).contains(Mode::WGRP) {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        file.take(MAX_LOG).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    };
    let bytes = read().ok().flatten().unwrap_or_default();
    for bytes in bytes.chunks_exact(ENTRY) {
        let (start, rest) = bytes.split_at(8);
        let (Ok(start), Ok(end)) = (start.try_into(), rest[..8].try_into()) else { break };
        let range = u64::from_le_bytes(start)..u64::from_le_bytes(end);
        if entry(&range) != bytes {
            break;
        }
        ranges.insert(range);
    }
    ranges
}

/// Makes holes of all that no entry tells of. Without that, what a killed process has written
/// there would show where zeros are left out.
pub(super) fn clear(file: &File, missing: &[Range<u64>]) -> io::Result<()> {
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    for range in missing {
        rustix::fs::fallocate(file, flags, range.start, range.end - range.start)?;
    }
    Ok(())
}

fn entry(range: &Range<u64>) -> [u8; ENTRY] {
    let mut entry = [0; ENTRY];
    entry[..8].copy_from_slice(&range.start.to_le_bytes());
    entry[8..16].copy_from_slice(&range.end.to_le_bytes());
    let check = Digest::of(&entry[..16]);
    entry[16..].copy_from_slice(&check.as_bytes()[..8]);
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODE: Mode = Mode::RUSR.union(Mode::WUSR);

    fn parts(dir: &Dir) -> Parts {
        let file = dir.create_new("file", MODE).unwrap();
        file.set_len(100_000).unwrap();
        let mut ranges = Ranges::default();
        ranges.insert(0..10);
        Parts::create(file, dir, "log", MODE, ranges).unwrap()
    }

    #[test]
    fn the_log_tells_what_was_written_up_to_an_entry_that_was_cut() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::open_root(temp.path()).unwrap();
        let parts = parts(&dir);
        parts.write(b"abc", 50_000).unwrap();
        parts.write(&[7; 90], 10).unwrap();
        let expected = [0..100, 50_000..50_003];
        assert_eq!(read_log(&dir, "log").iter().collect::<Vec<_>>(), expected);
        let mut buffer = [0; 10];
        assert_eq!(parts.read(&mut buffer, 50_001).unwrap(), 2);
        assert_eq!(&buffer[..2], b"bc");
        assert_eq!(parts.read(&mut buffer, 60_000).unwrap(), 0);

        let log = fs_err::read(temp.path().join("log")).unwrap();
        for cut in 0..log.len() {
            fs_err::write(temp.path().join("log"), &log[..cut]).unwrap();
            let told: u64 = read_log(&dir, "log").total();
            assert_eq!(told, [0, 10, 13, 103][cut / ENTRY]);
        }
        // After a power loss it may have its size and nothing in it.
        fs_err::write(temp.path().join("log"), [0; 10 * ENTRY]).unwrap();
        assert_eq!(read_log(&dir, "log"), Ranges::default());
    }

    #[test]
    fn nothing_is_written_twice() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::open_root(temp.path()).unwrap();
        let parts = parts(&dir);
        parts.write(b"abc", 50_000).unwrap();
        assert!(parts.write(b"xy", 50_002).is_err());
        let mut buffer = [0; 3];
        parts.read(&mut buffer, 50_000).unwrap();
        assert_eq!(&buffer, b"abc");
    }

    #[test]
    fn what_no_entry_tells_of_becomes_zeros() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::open_root(temp.path()).unwrap();
        let parts = parts(&dir);
        parts.file.write_all_at(&vec![9; 20_000], 70_000).unwrap();
        parts.write(&[7; 5000], 75_000).unwrap();
        clear(&parts.file, &parts.missing(0..100_000)).unwrap();
        let mut expected = vec![0; 100_000];
        expected[75_000..80_000].fill(7);
        assert_eq!(fs_err::read(temp.path().join("file")).unwrap(), expected);
    }
}
