//! [`Left`]: what an earlier transfer has left to continue, and what its files are called.

use super::dir::{self, Dir};
use super::parts;

/// What an earlier transfer has left, by how many bytes it has.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Left {
    bytes: u64,
    pub(super) base: String,
    pub(super) has_parts: bool,
}

/// Ends the name of a file that grows at its end alone.
pub(super) const PLAIN: &str = "part";

/// Ends the name of a file that has as many bytes as the whole from the beginning, and a log of
/// those that are there. Versions that know nothing of it must not take it for the other kind.
pub(super) const IN_PARTS: &str = "parts";

/// Ends the name of that log.
pub(super) const LOG: &str = "log";

/// Ends the name of the note of what the bytes are of.
pub(super) const NOTE: &str = "json";

impl Left {
    /// What a name in the directory of partial files is of, if it is one of these.
    pub(super) fn of(dir: &Dir, name: &str) -> Option<Self> {
        let (base, extension) = name.rsplit_once('.')?;
        let base = base.to_owned();
        let stat = dir.stat(name).ok().flatten();
        match extension {
            PLAIN => {
                Some(Self { bytes: stat.map_or(0, |s| dir::size_of(&s)), base, has_parts: false })
            }
            IN_PARTS => {
                let bytes = parts::read_log(dir, &format!("{base}.{LOG}")).total();
                Some(Self { bytes, base, has_parts: true })
            }
            _ => None,
        }
    }

    pub(super) fn name(&self) -> String {
        format!("{}.{}", self.base, if self.has_parts { IN_PARTS } else { PLAIN })
    }

    pub(super) fn note_name(&self) -> String {
        format!("{}.{NOTE}", self.base)
    }

    pub(super) fn log_name(&self) -> String {
        format!("{}.{LOG}", self.base)
    }
}

/// Removes everything of a transfer.
pub(super) fn remove_base(partial: &Dir, base: &str) {
    for extension in [PLAIN, IN_PARTS, NOTE, LOG] {
        let _ = partial.unlink(&format!("{base}.{extension}"));
    }
}
