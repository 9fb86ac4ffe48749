//! What an image was made from and what came out, kept beside its files.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

const NAME: &str = "manifest.toml";

/// The manifest of an image, `target/images/<name>/manifest.toml`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    /// Digest of the recipe.
    pub(super) recipe: String,
    /// Digest of the package lists that `packages` was last looked up in.
    pub(super) package_lists: String,
    /// The packages that went in, as `name=version`, sorted.
    pub(super) packages: Vec<String>,
    /// The files that came out, by name.
    pub(crate) files: BTreeMap<String, FileEntry>,
}

/// A file of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileEntry {
    /// SHA-256 in lower-case hex digits.
    pub(crate) sha256: String,
    /// Length in bytes.
    pub(crate) size: u64,
}

impl Manifest {
    /// The manifest of the image in `dir`, if that image was made by this
    /// recipe and its files are still what was made.
    pub(super) fn of_kept(dir: &Path, recipe: &str) -> Option<Self> {
        let text = fs_err::read_to_string(dir.join(NAME)).ok()?;
        let kept: Self = toml::from_str(&text).ok()?;
        let as_made = |(file, entry): (&String, &FileEntry)| {
            FileEntry::of(&dir.join(file)).is_ok_and(|now| now == *entry)
        };
        (kept.recipe == recipe && kept.files.iter().all(as_made)).then_some(kept)
    }

    pub(super) fn write(&self, dir: &Path) -> Result<()> {
        Ok(fs_err::write(dir.join(NAME), toml::to_string(self)?)?)
    }

    /// The digest of a file of the image, in hex digits.
    pub(crate) fn sha256(&self, file: &str) -> Result<&str> {
        let entry = self.files.get(file).with_context(|| format!("the image has no {file}"))?;
        Ok(&entry.sha256)
    }
}

/// Describes the files in `dir`, those with the names `files`.
pub(super) fn describe(dir: &Path, files: &[&str]) -> Result<BTreeMap<String, FileEntry>> {
    files.iter().map(|file| Ok(((*file).to_owned(), FileEntry::of(&dir.join(file))?))).collect()
}

impl FileEntry {
    fn of(path: &Path) -> Result<Self> {
        let size = fs_err::metadata(path)?.len();
        Ok(Self { sha256: digest_of(path)?, size })
    }
}

/// The SHA-256 of a file, in lower-case hex digits.
pub(crate) fn digest_of(path: &Path) -> Result<String> {
    let mut file = fs_err::File::open(path)?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&digest.finalize())),
            n => digest.update(&buffer[..n]),
        }
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
