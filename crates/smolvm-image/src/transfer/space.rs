//! [`Space`]: room on the disk, promised to transfers that run side by side.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::cache::Dir;
use crate::error::ImageError;

/// What the transfers of one fetch still have to write, in bytes.
#[derive(Debug, Default)]
pub(crate) struct Space {
    promised: AtomicU64,
}

/// A promise of room. What has been written is taken off with [`spend`](Self::spend).
#[derive(Debug)]
pub(super) struct Reservation<'a> {
    space: &'a Space,
    left: u64,
}

impl Space {
    /// Promises room for `bytes` in the file system of a directory, if it has that much beside
    /// what was promised before.
    pub(super) fn reserve(&self, dir: &Dir, bytes: u64) -> Result<Reservation<'_>, ImageError> {
        let reservation = Reservation { space: self, left: bytes };
        let promised = self.promised.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        // Where the file system does not say, writing will.
        if let Ok((available, _)) = dir.space()
            && available < promised
        {
            let path = dir.path().to_owned();
            return Err(ImageError::DiskFull { path, needed: bytes, available });
        }
        Ok(reservation)
    }
}

impl Reservation<'_> {
    pub(super) fn spend(&mut self, bytes: u64) {
        let bytes = bytes.min(self.left);
        self.left -= bytes;
        self.space.promised.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.spend(self.left);
    }
}

/// Whether a file system comes so close to full that a body of unknown size must end: less than
/// a twentieth of it left, or less than 64 MiB of a large one.
pub(super) fn is_nearly_full(dir: &Dir) -> Option<u64> {
    const ENOUGH: u64 = 64 << 20;
    let (available, all) = dir.space().ok()?;
    (available < ENOUGH.min(all / 20)).then_some(available)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Behaviour 25: two transfers are not promised the same room.
    #[test]
    fn room_is_promised_once() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::open_root(temp.path()).unwrap();
        let (available, _) = dir.space().unwrap();
        let space = Space::default();
        let mut first = space.reserve(&dir, available / 2).unwrap();
        let error = space.reserve(&dir, available / 2 + (1 << 30)).unwrap_err();
        assert!(matches!(error, ImageError::DiskFull { .. }), "{error}");
        first.spend(available / 2);
        drop(space.reserve(&dir, available / 2).unwrap());
        assert_eq!(space.promised.load(Ordering::Relaxed), 0);
    }
}
