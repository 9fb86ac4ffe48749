//! [`Note`]: what is noted beside a partial file, to continue it and to ask later whether it is out
//! of date.

use std::io::{self, Read as _, Write as _};
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use super::dir::Dir;
use super::store::Store;
use crate::digest::Digest;
use crate::error::ImageError;

/// What is needed to continue a transfer, and to ask later whether it is out of date.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Note {
    /// The digest of the URL that the bytes came from.
    pub(crate) url_sha256: Digest,
    /// The size of the whole, in bytes, where the server said it.
    pub(crate) total: Option<u64>,
    /// The validator that is strong enough for `If-Range`.
    pub(crate) if_range: Option<String>,
    pub(crate) etag: Option<String>,
    pub(crate) last_modified: Option<String>,
    /// The boot in which the bytes were written: after a power loss a file may have the right
    /// size and the wrong content.
    pub(crate) boot_id: String,
}

/// The identity of the running kernel's boot (`proc(5)`, `random/boot_id`); empty where it is not
/// known.
pub(crate) fn boot_id() -> &'static str {
    static BOOT_ID: OnceLock<String> = OnceLock::new();
    BOOT_ID.get_or_init(|| {
        fs_err::read_to_string("/proc/sys/kernel/random/boot_id")
            .map(|id| id.trim().to_owned())
            .unwrap_or_default()
    })
}

pub(super) fn read_note(partial: &Dir, name: &str) -> Option<Note> {
    let file = partial.open_file(name).ok().flatten()?;
    let mut text = Vec::new();
    file.take(64 << 10).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

pub(super) fn write_note(store: &Store, name: &str, note: &Note) -> Result<(), ImageError> {
    let temporary = format!("{name}.new");
    let write = || -> io::Result<()> {
        store.partial.unlink(&temporary)?;
        let mut file = store.partial.create_new(&temporary, store.modes.working)?;
        file.write_all(&serde_json::to_vec(note).map_err(io::Error::other)?)?;
        store.partial.rename(&temporary, &store.partial, name)
    };
    write().map_err(|error| ImageError::io(&store.partial.path_of(name), "write", error))
}
