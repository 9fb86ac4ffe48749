//! [`Partial`]: the bytes of a transfer on their way, in a file that one process alone writes to.

use std::collections::hash_map::RandomState;
use std::fs::File;
use std::hash::{BuildHasher as _, Hasher as _};
use std::io;

use super::copy::clone_or_copy;
use super::dir::{self, Dir, Inode};
use super::held::Held;
use super::key::Key;
use super::leavings::is_abandoned;
use super::note::{Note, read_note, write_note};
use super::store::Store;
use super::verify::{self, Verified};
use crate::cancel::CancelToken;
use crate::digest::Digest;
use crate::error::ImageError;

/// A file that grows. Its owner holds the lock of the key.
#[derive(Debug)]
pub(crate) struct Partial<'a> {
    store: &'a Store,
    key: &'a Key,
    base: String,
    file: File,
    length: u64,
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
            let base = name.strip_suffix(".part").map(str::to_owned);
            if let Some(base) = base.filter(|_| Key::of_file(&name).as_ref() == Some(key)) {
                let size = store.partial.stat(&name).ok().flatten();
                found.push((size.map_or(0, |stat| dir::size_of(&stat)), base));
            }
        }
        found.sort();
        let best = found.pop().map(|(_, base)| base);
        let partial = match &best {
            Some(base) => match Self::reopen(store, key, base) {
                Some(partial) => partial,
                None => Self::copy_of(store, key, base, cancel)?,
            },
            None => Self::create(store, key)?,
        };
        for base in found.into_iter().map(|(_, base)| base).chain(best) {
            let name = format!("{base}.part");
            let unused = store.locks_exclude || is_abandoned(&store.partial, &name);
            if base != partial.base && unused {
                remove_base(&store.partial, &base);
            }
        }
        Ok(partial)
    }

    fn create(store: &'a Store, key: &'a Key) -> Result<Self, ImageError> {
        // It has only to differ from what is there: that it is new is the kernel's word.
        let unique = RandomState::new().build_hasher().finish();
        let base = format!("{}.{unique:016x}", key.as_str());
        let name = format!("{base}.part");
        let file = store
            .partial
            .create_new(&name, store.modes.partial)
            .map_err(|error| ImageError::io(&store.partial.path_of(&name), "create", error))?;
        Ok(Self { store, key, base, file, length: 0, note: None })
    }

    /// Opens a file to continue in it; `None` where others may be writing to it.
    fn reopen(store: &'a Store, key: &'a Key, base: &str) -> Option<Self> {
        let file = store.partial.open_rw(&format!("{base}.part")).ok()??;
        let stat = rustix::fs::fstat(&file).ok()?;
        (dir::is_own(&stat) && store.locks_exclude).then(|| Self {
            store,
            key,
            base: base.to_owned(),
            file,
            length: dir::size_of(&stat),
            note: read_note(&store.partial, &format!("{base}.json")),
        })
    }

    /// A new file with the bytes of another one. Bytes that cannot be read are fetched again.
    fn copy_of(
        store: &'a Store,
        key: &'a Key,
        base: &str,
        cancel: &CancelToken,
    ) -> Result<Self, ImageError> {
        let mut copy = Self::create(store, key)?;
        let note = read_note(&store.partial, &format!("{base}.json"));
        match copy.take_bytes_of(&format!("{base}.part"), cancel) {
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
                log::debug!("cannot copy the partial file {base}: {error}");
                copy.restart()?;
            }
        }
        Ok(copy)
    }

    /// Copies a file; `None` where cancelled.
    fn take_bytes_of(&self, name: &str, cancel: &CancelToken) -> io::Result<Option<u64>> {
        let Some(source) = self.store.partial.open_file(name)? else { return Ok(Some(0)) };
        let length = source.metadata()?.len();
        Ok(clone_or_copy(&source, &self.file, length, cancel)?.then_some(length))
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Bytes so far.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    pub(crate) fn note(&self) -> Option<&Note> {
        self.note.as_ref()
    }

    /// The first bytes, as many as tell an image from something else.
    pub(crate) fn head(&self) -> Vec<u8> {
        verify::head(&self.file)
    }

    pub(crate) fn path(&self) -> std::path::PathBuf {
        self.store.partial.path_of(&format!("{}.part", self.base))
    }

    pub(crate) fn dir(&self) -> &Dir {
        &self.store.partial
    }

    /// Counts bytes that were written at [`length`](Self::length).
    pub(crate) fn grow(&mut self, count: u64) {
        self.length += count;
    }

    /// Forgets all bytes and what was noted of them.
    pub(crate) fn restart(&mut self) -> Result<(), ImageError> {
        let name = format!("{}.json", self.base);
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
        let name = format!("{}.json", self.base);
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
        if sync {
            self.file.sync_all().map_err(|error| failed("sync", error))?;
        }
        let size = self.length;
        let note = self.note.map(|note| Note { total: Some(size), ..note });
        if let Some(note) = &note {
            write_note(self.store, &self.key.note_name(), note)?;
        }
        partial
            .rename(&format!("{}.part", self.base), partial, self.key.as_str())
            .map_err(|error| failed("rename", error))?;
        // What is left of it is removed with the next leavings.
        let _ = partial.unlink(&format!("{}.json", self.base));
        let stat =
            rustix::fs::fstat(&self.file).map_err(|error| failed("look at", error.into()))?;
        let inode = Inode::of(&stat);
        let verified = Verified { file: self.file, inode, digest, size, steady: None };
        Ok(Held::keep(self.store, self.key, verified, note))
    }
}

fn remove_base(partial: &Dir, base: &str) {
    let _ = partial.unlink(&format!("{base}.part"));
    let _ = partial.unlink(&format!("{base}.json"));
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
        partial.file().write_all_at(bytes, partial.length()).unwrap();
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
