//! [`FileState`]: what the file system notes of a file, by which a change shows without reading it.

use rustix::fs::{Stat, Timespec};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::dir::{self, Inode};

/// What changes when anybody changes a file. Nobody can set the time of change (`ctime`), whereas
/// the time of modification can be put back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct FileState {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, u64),
    changed: (i64, u64),
}

/// A time by the clock that file systems take their times from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(i64, u64);

impl Moment {
    /// Now, as coarse as the kernel stamps files.
    pub(crate) fn now() -> Self {
        let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::RealtimeCoarse);
        Self(tv_sec, u64::try_from(tv_nsec).unwrap_or(0))
    }
}

impl FileState {
    /// Seconds that a change may stay without a new time where times have no fractions: FAT counts
    /// in steps of two.
    const COARSEST_STEP: i64 = 3;

    pub(crate) fn of(stat: &Stat) -> Self {
        #[expect(clippy::unnecessary_cast, reason = "the widths differ between architectures")]
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: dir::size_of(stat),
            modified: (stat.st_mtime as i64, stat.st_mtime_nsec as u64),
            changed: (stat.st_ctime as i64, stat.st_ctime_nsec as u64),
        }
    }

    pub(crate) fn inode(&self) -> Inode {
        Inode::new(self.device, self.inode)
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Whether a change after that moment is sure to make another state of this one.
    ///
    /// The times of files go in steps: within one, a second change does not show. git calls an
    /// entry of its index "racy" that is as young as the index, for the same reason.
    pub(crate) fn shows_changes_after(&self, moment: Moment) -> bool {
        let (seconds, fraction) = self.changed;
        if fraction == 0 {
            seconds + Self::COARSEST_STEP <= moment.0
        } else {
            Moment(seconds, fraction) < moment
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(changed: (i64, u64)) -> FileState {
        FileState { device: 1, inode: 2, size: 3, modified: (4, 5), changed }
    }

    #[test]
    fn what_changed_in_this_very_step_may_change_again_unseen() {
        assert!(state((10, 5)).shows_changes_after(Moment(10, 6)));
        assert!(!state((10, 5)).shows_changes_after(Moment(10, 5)));
        assert!(!state((10, 5)).shows_changes_after(Moment(9, 9)));
    }

    #[test]
    fn times_without_fractions_may_go_in_steps_of_seconds() {
        assert!(!state((10, 0)).shows_changes_after(Moment(12, 999)));
        assert!(state((10, 0)).shows_changes_after(Moment(13, 0)));
    }
}
