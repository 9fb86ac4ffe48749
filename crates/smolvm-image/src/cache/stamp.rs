//! [`Stamps`]: what is noted of files when they are verified, so that those that have not changed
//! since need not be hashed again.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Write as _};

use rustix::fs::Mode;
use serde::{Deserialize, Serialize};

use super::dir::{self, Dir};
use super::file_state::FileState;
use super::fs_verity::VerityDigest;
use super::note::boot_id;
use super::record::Recorded;
use super::store::Store;
use super::verify::{Steady, Verified};
use crate::digest::Digest;
use crate::error::ImageError;
use crate::image::Asset;
use crate::name::ImageName;
use crate::progress::AssetKind;

/// Stamps that are larger, in bytes, are none of ours.
const MAX_SIZE: u64 = 64 << 10;

/// What a file was like when every byte of it was known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    pub(crate) state: FileState,
    pub(crate) digest: Digest,
    /// The boot in which it was verified: after a power loss, a file that was not on the disk yet
    /// may have the right size and times, and nothing in it.
    pub(crate) boot_id: String,
    /// Whether it was on the disk by then.
    pub(crate) synced: bool,
    /// What its bytes were called by fs-verity, if it had that when it was hashed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) verity: Option<VerityDigest>,
}

impl Stamp {
    /// Whether a file is sure to have the bytes that were verified, or none.
    ///
    /// With fs-verity that does not rest on times, boots and what was synced: whatever else the
    /// disk has, the kernel refuses to read.
    fn is_of(&self, file: &File) -> bool {
        match self.verity {
            Some(verity) => VerityDigest::of(file) == Some(verity),
            None => self.survives() && own_state(file) == Some(self.state),
        }
    }

    /// Whether no power was lost between it and now, or none could do harm.
    fn survives(&self) -> bool {
        self.synced || (!self.boot_id.is_empty() && self.boot_id == boot_id())
    }
}

/// The stamps of an image, by `kernel`, `initrd` and `rootfs`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamps(BTreeMap<String, Stamp>);

impl Stamps {
    pub(crate) fn of(&self, kind: AssetKind) -> Option<&Stamp> {
        self.0.get(kind.label())
    }

    pub(crate) fn put(&mut self, kind: AssetKind, stamp: Stamp) {
        self.0.insert(kind.label().to_owned(), stamp);
    }

    pub(crate) fn forget(&mut self, kind: AssetKind) {
        self.0.remove(kind.label());
    }

    /// Notes that these files are on the disk by now; says whether that is news of any.
    pub(crate) fn mark_synced(&mut self, kinds: impl Iterator<Item = AssetKind>) -> bool {
        let mut is_news = false;
        for kind in kinds {
            if let Some(stamp) = self.0.get_mut(kind.label()) {
                is_news |= !stamp.synced;
                stamp.synced = true;
            }
        }
        is_news
    }

    /// Reads what this user has noted in an image's directory. What somebody else could have
    /// written, or what was written in part, counts as nothing.
    pub(crate) fn read(dir: &Dir) -> Self {
        read(dir).unwrap_or_default()
    }

    /// Notes them in the directory of an image, unless somebody else is changing it.
    pub(crate) fn write(&self, store: &Store, image: &ImageName) -> Result<(), ImageError> {
        let Some(_lock) = store.try_lock_image(image)? else { return Ok(()) };
        let Some(dir) = store.root.open_dir(image)? else { return Ok(()) };
        let (name, temporary) = (file_name(), format!("{}.new", file_name()));
        let write = || -> io::Result<()> {
            let body = serde_json::to_vec(self).map_err(io::Error::other)?;
            dir.unlink(&temporary)?;
            let mut file = dir.create_new(&temporary, Mode::RUSR | Mode::WUSR)?;
            file.write_all(format!("{}\n", Digest::of(&body)).as_bytes())?;
            file.write_all(&body)?;
            dir.rename(&temporary, &dir, &name)
        };
        write().map_err(|error| ImageError::io(&dir.path_of(&name), "write", error))
    }
}

/// One file for each user: what another one notes is no proof.
fn file_name() -> String {
    format!(".verified-{}.json", rustix::process::geteuid().as_raw())
}

fn read(dir: &Dir) -> Option<Stamps> {
    let file = dir.open_file(&file_name()).ok()??;
    let stat = rustix::fs::fstat(&file).ok()?;
    let others = Mode::WGRP | Mode::WOTH;
    if !dir::is_own(&stat) || Mode::from_raw_mode(stat.st_mode).intersects(others) {
        return None;
    }
    let mut text = Vec::new();
    file.take(MAX_SIZE).read_to_end(&mut text).ok()?;
    let line = text.iter().position(|&byte| byte == b'\n')?;
    let (digest, body) = (&text[..line], &text[line + 1..]);
    let digest: Digest = std::str::from_utf8(digest).ok()?.parse().ok()?;
    (digest == Digest::of(body)).then(|| serde_json::from_slice(body).ok()).flatten()
}

/// The file of an asset, where its stamp shows that it is right: the very file that was verified,
/// not changed since, with the digest that is asked for now.
pub(crate) fn unchanged(
    dir: &Dir,
    asset: &Asset,
    recorded: Recorded<'_>,
    stamp: Option<&Stamp>,
) -> Option<Verified> {
    let stamp = stamp?;
    let expected = asset.digest.or_else(|| recorded.of(asset).map(|record| record.sha256))?;
    if stamp.digest != expected {
        return None;
    }
    let file = dir.open_file(&asset.file_name).ok()??;
    if !stamp.is_of(&file) {
        return None;
    }
    let state = FileState::of(&rustix::fs::fstat(&file).ok()?);
    Some(Verified {
        file,
        inode: state.inode(),
        digest: expected,
        size: state.size(),
        steady: Some(Box::new(Steady { state, verity: stamp.verity })),
    })
}

/// The state of a file of this user's own. Another's could be changed unseen: who has it mapped
/// for writing changes its times once, and its bytes ever after.
pub(crate) fn own_state(file: &File) -> Option<FileState> {
    let stat = rustix::fs::fstat(file).ok()?;
    dir::is_own(&stat).then(|| FileState::of(&stat))
}
