//! [`Partial`]: the bytes of a transfer on their way, in a file that one process alone writes to.

use std::collections::hash_map::RandomState;
use std::fs::File;
use std::hash::{BuildHasher as _, Hasher as _};
use std::io;
use std::sync::Arc;

use super::copy::clone_or_copy;
use super::dir::{self, Dir, Inode};
use super::held::Held;
use super::key::Key;
use super::leavings::is_abandoned;
use super::left::{IN_PARTS, LOG, Left, NOTE, PLAIN, remove_base};
use super::note::{Note, read_note, write_note};
use super::parts::{self, Parts};
use super::ranges::Ranges;
use super::store::Store;
use super::verify::{self, Verified};
use crate::cancel::CancelToken;
use crate::digest::Digest;
use crate::error::ImageError;
use crate::holes;

/// A file that grows. Its owner holds the lock of the key.
#[derive(Debug)]
pub(crate) struct Partial<'a> {
    store: &'a Store,
    key: &'a Key,
    base: String,
    file: File,
    length: u64,
    /// Where it is written to in several places: what there is of it.
    parts: Option<Arc<Parts>>,
    note: Option<Note>,
}

impl<'a> Partial<'a> {
    /// Takes over what an earlier transfer left, or begins with nothing.
    ///
    /// A file that another may still be writing to is not written to: where locks may be a lie
    /// (a network file system), or where the file is another user's, who may hold it open, its
    /// bytes are copied into a file that only this process has ever opened.
    pub(crate) fn claim(
        store: &'a Store,
        key: &'a Key,
        cancel: &CancelToken,
    ) -> Result<Self, ImageError> {
        let mut found = Vec::new();
        for name in store.partial.names()? {
            if Key::of_file(&name).as_ref() == Some(key) {
                found.extend(Left::of(&store.partial, &name));
            }
        }
        found.sort();
        let best = found.pop();
        let partial = match &best {
            Some(left) => match Self::reopen(store, key, left) {
                Some(partial) => partial,
                None => Self::copy_of(store, key, left, cancel)?,
            },
            None => Self::create(store, key)?,
        };
        for left in found.into_iter().chain(best) {
            let unused = store.locks_exclude || is_abandoned(&store.partial, &left.name());
            if left.base != partial.base && unused {
                remove_base(&store.partial, &left.base);
            }
        }
        Ok(partial)
    }

    fn create(store: &'a Store, key: &'a Key) -> Result<Self, ImageError> {
        // It has only to differ from what is there: that it is new is the kernel's word.
        let unique = RandomState::new().build_hasher().finish();
        let base = format!("{}.{unique:016x}", key.as_str());
        let name = format!("{base}.{PLAIN}");
        let file = store
            .partial
            .create_new(&name, store.modes.partial)
            .map_err(|error| ImageError::io(&store.partial.path_of(&name), "create", error))?;
        Ok(Self { store, key, base, file, length: 0, parts: None, note: None })
    }

    /// Opens a file to continue in it; `None` where others may be writing to it, or where it cannot
    /// be told what there is of it.
    fn reopen(store: &'a Store, key: &'a Key, left: &Left) -> Option<Self> {
        let file = store.partial.open_rw(&left.name()).ok()??;
        let stat = rustix::fs::fstat(&file).ok()?;
        let partial = (dir::is_own(&stat) && store.locks_exclude).then(|| Self {
            store,
            key,
            base: left.base.clone(),
            file,
            length: dir::size_of(&stat),
            parts: None,
            note: read_note(&store.partial, &left.note_name()),
        })?;
        if left.has_parts { partial.with_parts() } else { Some(partial) }
    }

    /// Goes on with a file that an earlier transfer has written in several places.
    fn with_parts(mut self) -> Option<Self> {
        let total = self.note.as_ref()?.total.filter(|&total| total >= self.length)?;
        let mut ranges = parts::read_log(&self.store.partial, &self.name_of(LOG));
        // What is said to be beyond the end is nowhere.
        ranges.retain_below(self.length);
        parts::clear(&self.file, &ranges.missing(0..self.length)).ok()?;
        self.file.set_len(total).ok()?;
        self.length = ranges.end_at(0).unwrap_or(0);
        self.parts = Some(Arc::new(self.log_of(ranges).ok()?));
        Some(self)
    }

    /// A new file with the bytes of another one, those at its beginning without a gap. Bytes that
    /// cannot be read are fetched again.
    fn copy_of(
        store: &'a Store,
        key: &'a Key,
        left: &Left,
        cancel: &CancelToken,
    ) -> Result<Self, ImageError> {
        let mut copy = Self::create(store, key)?;
        let note = read_note(&store.partial, &left.note_name());
        match copy.take_bytes_of(left, cancel) {
            Ok(Some(length)) => {
                copy.length = length;
                if let Some(note) = note {
                    copy.write_note(note)?;
                }
            }
            Ok(None) => {
                copy.discard();
                return Err(ImageError::Cancelled);
            }
            Err(error) => {
                log::debug!("cannot copy the partial file {}: {error}", left.base);
                copy.restart()?;
            }
        }
        Ok(copy)
    }

    /// Copies a file; `None` where cancelled.
    fn take_bytes_of(&self, left: &Left, cancel: &CancelToken) -> io::Result<Option<u64>> {
        let Some(source) = self.store.partial.open_file(&left.name())? else { return Ok(Some(0)) };
        let mut length = source.metadata()?.len();
        if left.has_parts {
            let log = parts::read_log(&self.store.partial, &left.log_name());
            length = length.min(log.end_at(0).unwrap_or(0));
        }
        if !clone_or_copy(&source, &self.file, length, cancel)? {
            return Ok(None);
        }
        // A clone has the length of the original.
        self.file.set_len(length)?;
        Ok(Some(length))
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Bytes so far, from the beginning without a gap.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Bytes so far, wherever they are.
    pub(crate) fn bytes(&self) -> u64 {
        self.parts.as_ref().map_or(self.length, |parts| parts.total())
    }

    /// What there is of a file that is written to in several places.
    pub(crate) fn parts(&self) -> Option<&Arc<Parts>> {
        self.parts.as_ref()
    }

    pub(crate) fn note(&self) -> Option<&Note> {
        self.note.as_ref()
    }

    /// The first bytes, as many as tell an image from something else.
    pub(crate) fn head(&self) -> Vec<u8> {
        verify::head(&self.file)
    }

    pub(crate) fn path(&self) -> std::path::PathBuf {
        self.store.partial.path_of(&self.name())
    }

    pub(crate) fn dir(&self) -> &Dir {
        &self.store.partial
    }

    fn name(&self) -> String {
        self.name_of(if self.parts.is_some() { IN_PARTS } else { PLAIN })
    }

    fn name_of(&self, extension: &str) -> String {
        format!("{}.{extension}", self.base)
    }

    /// From now on the file, of so many bytes in the end, is written to in several places, each
    /// where nobody else writes. The note has been written.
    pub(crate) fn write_in_parts(&mut self, total: u64) -> Result<Arc<Parts>, ImageError> {
        if let Some(parts) = &self.parts {
            return Ok(Arc::clone(parts));
        }
        let mut ranges = Ranges::default();
        ranges.insert(0..self.length);
        let begin = || -> io::Result<Parts> {
            // The log comes first: without it, nothing that such a file has is of use.
            let parts = self.log_of(ranges)?;
            let partial = &self.store.partial;
            partial.rename(&self.name_of(PLAIN), partial, &self.name_of(IN_PARTS))?;
            self.file.set_len(total)?;
            Ok(parts)
        };
        let parts = begin().map_err(|error| ImageError::io(&self.path(), "prepare", error))?;
        Ok(Arc::clone(self.parts.insert(Arc::new(parts))))
    }

    fn log_of(&self, ranges: Ranges) -> io::Result<Parts> {
        let Store { partial, modes, .. } = self.store;
        Parts::create(self.file.try_clone()?, partial, &self.name_of(LOG), modes.partial, ranges)
    }

    /// Writes bytes at [`length`](Self::length).
    pub(crate) fn append(&self, bytes: &[u8]) -> io::Result<()> {
        match &self.parts {
            None => holes::append(&self.file, bytes, self.length),
            Some(parts) if !bytes.is_empty() => parts.write(bytes, self.length),
            Some(_) => Ok(()),
        }
    }

    /// Counts bytes that are there at [`length`](Self::length), whoever wrote them.
    pub(crate) fn grow(&mut self, count: u64) {
        self.length += count;
    }

    /// Forgets all bytes and what was noted of them.
    pub(crate) fn restart(&mut self) -> Result<(), ImageError> {
        if self.parts.is_some() {
            // Whoever is still writing writes to a file without a name.
            remove_base(&self.store.partial, &self.base);
            *self = Self::create(self.store, self.key)?;
            return Ok(());
        }
        let name = self.name_of(NOTE);
        self.store
            .partial
            .unlink(&name)
            .map_err(|error| ImageError::io(&self.store.partial.path_of(&name), "remove", error))?;
        self.note = None;
        self.file.set_len(0).map_err(|error| ImageError::io(&self.path(), "truncate", error))?;
        self.length = 0;
        Ok(())
    }

    /// Notes what the bytes to come are of. Comes before the first of them.
    pub(crate) fn write_note(&mut self, note: Note) -> Result<(), ImageError> {
        if self.note.as_ref() == Some(&note) {
            return Ok(());
        }
        let name = self.name_of(NOTE);
        write_note(self.store, &name, &note)?;
        self.note = Some(note);
        Ok(())
    }

    /// Gives the file up with its bytes.
    pub(crate) fn discard(self) {
        remove_base(&self.store.partial, &self.base);
    }

    /// Ends the transfer: the bytes are whole and have this digest. The file becomes read-only
    /// and waits under the name of its key for the rest of its image.
    ///
    /// What no digest will vouch for later is written to the disk first (`sync`).
    pub(crate) fn park(self, digest: Digest, sync: bool) -> Result<Held, ImageError> {
        let partial = &self.store.partial;
        let path = self.path();
        let failed = |action, error: io::Error| ImageError::io(&path, action, error);
        rustix::fs::fchmod(&self.file, self.store.modes.published)
            .map_err(|error| failed("set the mode of", error.into()))?;
        let size = self.length;
        if self.parts.is_some() {
            // It was made as long as the source once said that it is.
            self.file.set_len(size).map_err(|error| failed("truncate", error))?;
        }
        if sync {
            self.file.sync_all().map_err(|error| failed("sync", error))?;
        }
        let note = self.note.clone().map(|note| Note { total: Some(size), ..note });
        if let Some(note) = &note {
            write_note(self.store, &self.key.note_name(), note)?;
        }
        partial
            .rename(&self.name(), partial, self.key.as_str())
            .map_err(|error| failed("rename", error))?;
        // What is left of it is removed with the next leavings.
        for extension in [NOTE, LOG] {
            let _ = partial.unlink(&self.name_of(extension));
        }
        let stat =
            rustix::fs::fstat(&self.file).map_err(|error| failed("look at", error.into()))?;
        let inode = Inode::of(&stat);
        let verified = Verified { file: self.file, inode, digest, size, steady: None };
        Ok(Held::keep(self.store, self.key, verified, note))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use super::super::held::parked;
    use super::super::leavings::{has_leavings, tidy};
    use super::*;
    use crate::image::ImageSource;

    /// A store on a file system whose locks may exclude nobody.
    fn store_with_lying_locks(dir: &std::path::Path) -> Store {
        Store { locks_exclude: false, ..Store::create(dir).unwrap() }
    }

    fn key() -> Key {
        let pin = Digest::of(b"all of it").to_string();
        let source =
            ImageSource::builder("x").kernel("http://h/k", Some(&pin)).rootfs("http://h/r", None);
        Key::of(source.build().unwrap().kernel())
    }

    fn write(partial: &mut Partial<'_>, bytes: &[u8]) {
        partial.append(bytes).unwrap();
        partial.grow(bytes.len() as u64);
    }

    fn content(held: &Held) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(held.verified.size).unwrap()];
        held.verified.file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }

    #[test]
    fn where_locks_lie_two_owners_never_write_to_one_file() {
        let temp = tempfile::tempdir().unwrap();
        let store = store_with_lying_locks(temp.path());
        let (key, cancel) = (key(), CancelToken::new());
        let mut first = Partial::claim(&store, &key, &cancel).unwrap();
        write(&mut first, b"all ");
        // Both believe that they alone hold the lock.
        let mut second = Partial::claim(&store, &key, &cancel).unwrap();
        assert_eq!(second.length(), 4, "what is there is taken over");
        write(&mut second, b"wrong");
        write(&mut first, b"of it");
        let digest = Digest::of(b"all of it");
        let held = first.park(digest, false).unwrap();
        write(&mut second, b" and more of it");
        assert_eq!(content(&held), b"all of it");
        second.discard();
        let waiting = parked(&store, &key, Some(digest), &cancel, |_| {}).unwrap().unwrap();
        assert_eq!(content(&waiting), b"all of it");
    }

    #[test]
    fn where_locks_hold_a_transfer_goes_on_in_place() {
        let temp = tempfile::tempdir().unwrap();
        let store = Store::create(temp.path()).unwrap();
        let (key, cancel) = (key(), CancelToken::new());
        let mut first = Partial::claim(&store, &key, &cancel).unwrap();
        write(&mut first, b"all ");
        let path = first.path();
        drop(first);
        let second = Partial::claim(&store, &key, &cancel).unwrap();
        assert_eq!((second.path(), second.length()), (path, 4));
    }

    #[test]
    fn what_is_held_is_not_tidied_away() {
        let temp = tempfile::tempdir().unwrap();
        let store = Store::create(temp.path()).unwrap();
        let (key, cancel) = (key(), CancelToken::new());
        let mut partial = Partial::claim(&store, &key, &cancel).unwrap();
        write(&mut partial, b"all of it");
        let held = partial.park(Digest::of(b"all of it"), false).unwrap();
        tidy(&store, &key).unwrap();
        assert!(has_leavings(temp.path(), [key.clone()].into_iter()).unwrap());
        drop(held);
        tidy(&store, &key).unwrap();
        assert!(!has_leavings(temp.path(), [key].into_iter()).unwrap());
    }

    #[test]
    fn a_wrong_file_under_a_key_is_thrown_away() {
        let temp = tempfile::tempdir().unwrap();
        let store = Store::create(temp.path()).unwrap();
        let (key, cancel) = (key(), CancelToken::new());
        fs_err::write(store.partial.path_of(key.as_str()), b"planted").unwrap();
        let pin = Some(Digest::of(b"all of it"));
        assert!(parked(&store, &key, pin, &cancel, |_| {}).unwrap().is_none());
        assert!(!has_leavings(temp.path(), [key].into_iter()).unwrap());
    }
}
