//! Whether a file under a final name is what it should be: by size alone, or by every byte.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use super::dir::{self, Dir, Inode};
use super::file_state::{FileState, Moment};
use super::fs_verity::VerityDigest;
use super::record::Recorded;
use super::shared_pass;
use crate::buffer::Buffer;
use crate::cancel::CancelToken;
use crate::digest::Digest;
use crate::error::ImageError;
use crate::image::Asset;
use crate::sniff;

/// What a look at the directory tells of an asset.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    /// It is there, with the recorded size in bytes.
    Present(u64),
    /// Nothing is there, or something of an earlier definition of the image.
    Missing,
    /// Something is there that cannot be used.
    Damaged(String),
}

/// What hashing an asset tells of it.
#[derive(Debug)]
pub(crate) enum Finding {
    /// It is whole and right.
    Good(Verified),
    /// Nothing is there, or something of an earlier definition of the image.
    Missing,
    /// Something is there that cannot be used.
    Damaged(String),
}

/// A file whose every byte was hashed. It stays open, so that it can be told from another one
/// that is put in its place.
#[derive(Debug)]
pub(crate) struct Verified {
    pub(crate) file: File,
    pub(crate) inode: Inode,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    /// What the file was like from the beginning of the pass to its end, if it is this user's own
    /// and a change since the beginning would show, or if fs-verity keeps it from changing.
    pub(crate) steady: Option<Box<Steady>>,
}

/// What a file was like that nobody has changed while it was hashed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Steady {
    pub(crate) state: FileState,
    /// What fs-verity has called its bytes since before they were hashed.
    pub(crate) verity: Option<VerityDigest>,
}

/// Whether the asset is there with the recorded size. Hashes nothing and never fails.
pub(crate) fn presence(dir: &Dir, asset: &Asset, recorded: Recorded<'_>) -> Presence {
    let stat = match dir.stat(&asset.file_name) {
        Ok(Some(stat)) => stat,
        Ok(None) => return Presence::Missing,
        Err(error) => return Presence::Damaged(format!("it cannot be looked at: {error}")),
    };
    let size = dir::size_of(&stat);
    let current = recorded.of(asset);
    if !dir::is_regular(&stat) {
        Presence::Damaged("it is not a regular file".to_owned())
    } else if size == 0 {
        Presence::Damaged("it is empty".to_owned())
    } else if !dir.is_readable(&asset.file_name) {
        Presence::Damaged("it cannot be read".to_owned())
    } else if let Some(recorded) = current.map(|record| record.size).filter(|&other| other != size)
    {
        Presence::Damaged(format!("it has {size} bytes, {recorded} are recorded"))
    } else if matches!(recorded, Recorded::Lost) && asset.digest.is_none() {
        Presence::Damaged("its record image.json cannot be read, and it has no pin".to_owned())
    } else if matches!(recorded, Recorded::Asset(_)) && current.is_none() {
        // The record is of another pin or address than the definition: so is the file.
        Presence::Missing
    } else {
        Presence::Present(size)
    }
}

/// Whether the asset is there and right, by hashing every byte. `on_hash` is called with the size
/// in bytes before that begins.
///
/// What it must match is the pin; without one, the digest that was recorded; without either, it
/// is taken for what it is, unless it is obviously no image.
pub(crate) fn check(
    dir: &Dir,
    asset: &Asset,
    recorded: Recorded<'_>,
    cancel: &CancelToken,
    on_hash: impl FnOnce(u64),
) -> Result<Finding, ImageError> {
    match presence(dir, asset, recorded) {
        Presence::Damaged(reason) => return Ok(Finding::Damaged(reason)),
        // With a pin, the bytes decide and not what is recorded of them.
        Presence::Missing if asset.digest.is_none() => return Ok(Finding::Missing),
        Presence::Missing | Presence::Present(_) => {}
    }
    let opened = match dir.open_file(&asset.file_name) {
        Ok(Some(file)) => examine(file, on_hash, cancel)?,
        Ok(None) => return Ok(Finding::Missing),
        Err(error) => Err(error),
    };
    let verified = match opened {
        Ok(verified) => verified,
        Err(error) => return Ok(Finding::Damaged(format!("it cannot be read: {error}"))),
    };
    let expected = asset.digest.or_else(|| recorded.of(asset).map(|record| record.sha256));
    Ok(match expected {
        Some(expected) if expected == verified.digest => Finding::Good(verified),
        Some(expected) => {
            Finding::Damaged(format!("its SHA-256 digest is {}, not {expected}", verified.digest))
        }
        None => match sniff::not_an_image(&head(&verified.file)) {
            Some(content) => Finding::Damaged(format!("it is {content}, not an image")),
            None => Finding::Good(verified),
        },
    })
}

/// Hashes an open file; the inner error is that of reading it.
pub(crate) fn examine(
    file: File,
    on_hash: impl FnOnce(u64),
    cancel: &CancelToken,
) -> Result<io::Result<Verified>, ImageError> {
    let stat = match rustix::fs::fstat(&file) {
        Ok(stat) => stat,
        Err(error) => return Ok(Err(error.into())),
    };
    on_hash(dir::size_of(&stat));
    let state = FileState::of(&stat);
    let verity = VerityDigest::of(&file);
    let hash = || {
        let whole = hash_prefix(&file, u64::MAX, Sha256::new(), cancel)?;
        Ok(whole.map(|(hasher, size)| (hasher.into(), size)))
    };
    let shows_changes = state.shows_changes_after(Moment::now());
    let state_now = || rustix::fs::fstat(&file).ok().map(|stat| FileState::of(&stat));
    let hashed =
        if shows_changes { shared_pass::share(state, state_now, cancel, hash) } else { hash() };
    let (digest, size) = match hashed {
        Ok(Some(whole)) => whole,
        Ok(None) => return Err(ImageError::Cancelled),
        Err(error) => return Ok(Err(if verity.is_some() { explained(error) } else { error })),
    };
    let is_steady =
        verity.is_some() || (shows_changes && dir::is_own(&stat) && state_now() == Some(state));
    let steady = is_steady.then(|| Box::new(Steady { state, verity }));
    Ok(Ok(Verified { file, inode: Inode::of(&stat), digest, size, steady }))
}

/// An error of reading a file with fs-verity: the one that the kernel has for other bytes than
/// those it knows is that of a disk that cannot be read.
fn explained(error: io::Error) -> io::Error {
    if Errno::from_io_error(&error) != Some(Errno::IO) {
        return error;
    }
    io::Error::other("a block has changed on the disk, and fs-verity refuses it")
}

/// Feeds the first `length` bytes of a file (or all it has) to a hasher, wherever its cursor
/// stands; gives back the hasher and how many bytes it was fed, or `None` where cancelled.
pub(crate) fn hash_prefix(
    file: &File,
    length: u64,
    mut hasher: Sha256,
    cancel: &CancelToken,
) -> io::Result<Option<(Sha256, u64)>> {
    let mut buffer = Buffer::new();
    let mut offset = 0;
    while offset < length {
        if cancel.is_cancelled() {
            return Ok(None);
        }
        let space = buffer.space();
        let most = usize::try_from(length - offset).unwrap_or(usize::MAX).min(space.len());
        match file.read_at(&mut space[..most], offset) {
            Ok(0) => break,
            Ok(count) => {
                hasher.update(&space[..count]);
                offset += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Some((hasher, offset)))
}

/// The first bytes of a file, as many as tell an image from something else.
pub(crate) fn head(file: &File) -> Vec<u8> {
    let mut head = vec![0; sniff::HEAD];
    let count = file.read_at(&mut head, 0).unwrap_or(0);
    head.truncate(count);
    head
}
