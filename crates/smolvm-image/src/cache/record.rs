//! [`Record`]: what `image.json` says of a cached image, and how it is read and written.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};

use serde::{Deserialize, Serialize};

use super::dir::Dir;
use crate::digest::Digest;
use crate::image::Asset;
use crate::progress::AssetKind;

/// The name of the record in an image's directory.
pub(crate) const RECORD_FILE: &str = "image.json";

/// What the next record is written to before it replaces the last one. Under the image's lock
/// there is one writer, so that a killed one's is the next one's to replace.
pub(super) const TEMPORARY_RECORD: &str = ".image.json.new";

/// A record that is larger, in bytes, is none of ours.
const MAX_SIZE: u64 = 1 << 20;

/// What is known of an image's files in the cache. It is a note, not an authority: a pin is
/// always stronger, and where it is missing or unreadable the image is judged without it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The version of this format.
    pub(crate) version: u32,
    /// The name of the image, for people who find the file.
    pub(crate) name: String,
    /// By `kernel`, `initrd` and `rootfs`.
    pub(crate) assets: BTreeMap<String, AssetRecord>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) boot_args: Option<String>,
}

/// What is known of one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AssetRecord {
    /// Its name in the image's directory.
    pub(crate) file: String,
    /// Where it came from, without secrets.
    pub(crate) url: String,
    /// The digest of the whole URL: tells whether the address has changed since.
    pub(crate) url_sha256: Digest,
    /// The digest of the file.
    pub(crate) sha256: Digest,
    /// Its size in bytes.
    pub(crate) size: u64,
    /// When it was fetched or adopted (RFC 3339, UTC).
    pub(crate) fetched_at: String,
    /// The server's validators, for asking whether it has changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) etag: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last_modified: Option<String>,
}

impl Record {
    /// The version that this program writes.
    pub(crate) const VERSION: u32 = 1;

    /// The version of a record that a later version of this program wrote. Not a byte of that may
    /// be lost: it is not overwritten.
    pub(crate) fn newer_version(dir: &Dir) -> Option<u32> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let record: Versioned = serde_json::from_slice(&read_text(dir).ok()??).ok()?;
        (record.version > Self::VERSION).then_some(record.version)
    }

    /// Replaces the record of an image's directory in one step. The caller holds the image's lock.
    pub(crate) fn write(&self, dir: &Dir, mode: rustix::fs::Mode, sync: bool) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(self).map_err(io::Error::other)?;
        dir.unlink(TEMPORARY_RECORD)?;
        let mut file = dir.create_new(TEMPORARY_RECORD, mode)?;
        file.write_all(&text)?;
        file.write_all(b"\n")?;
        if sync {
            file.sync_all()?;
        }
        dir.rename(TEMPORARY_RECORD, dir, RECORD_FILE)?;
        if sync {
            dir.sync()?;
        }
        Ok(())
    }

    /// The assets of an image that no registry names, with the recorded digests as pins. What a
    /// forged record may have in the place of a name or an address is left out.
    pub(crate) fn to_assets(&self) -> Vec<Asset> {
        let kinds = [AssetKind::Kernel, AssetKind::Initrd, AssetKind::Rootfs];
        let asset = |kind| {
            let recorded = self.asset(kind)?;
            let (url, file_name) = (recorded.url.parse().ok()?, recorded.file.parse().ok()?);
            Some(Asset { kind, url, digest: Some(recorded.sha256), file_name })
        };
        kinds.into_iter().filter_map(asset).collect()
    }

    pub(crate) fn asset(&self, kind: AssetKind) -> Option<&AssetRecord> {
        self.assets.get(kind.label())
    }
}

/// What the cache remembers of an image.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Memory {
    /// There is no record: nothing was ever fetched here.
    None,
    Record(Record),
    /// There is a record that cannot be read, so that nothing vouches for what has no pin.
    Lost,
}

/// What the cache remembers of an asset.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Recorded<'a> {
    Nothing,
    Asset(&'a AssetRecord),
    /// See [`Memory::Lost`].
    Lost,
}

impl Memory {
    /// Reads the record of an image's directory. One of a later version is read as far as it is
    /// understood.
    pub(crate) fn read(dir: &Dir) -> Self {
        match read_text(dir) {
            Ok(None) => Self::None,
            Ok(Some(text)) => serde_json::from_slice(&text).map_or(Self::Lost, Self::Record),
            Err(_) => Self::Lost,
        }
    }

    pub(crate) fn record(&self) -> Option<&Record> {
        match self {
            Self::Record(record) => Some(record),
            Self::None | Self::Lost => None,
        }
    }

    pub(crate) fn of(&self, kind: AssetKind) -> Recorded<'_> {
        match self {
            Self::None => Recorded::Nothing,
            Self::Record(record) => record.asset(kind).map_or(Recorded::Nothing, Recorded::Asset),
            Self::Lost => Recorded::Lost,
        }
    }
}

impl<'a> Recorded<'a> {
    /// The record of the asset as it is defined now, not of an earlier definition.
    pub(crate) fn of(self, asset: &Asset) -> Option<&'a AssetRecord> {
        match self {
            Self::Asset(record) => Some(record).filter(|record| record.is_of(asset)),
            Self::Nothing | Self::Lost => None,
        }
    }
}

fn read_text(dir: &Dir) -> io::Result<Option<Vec<u8>>> {
    let Some(file) = dir.open_file(RECORD_FILE)? else { return Ok(None) };
    let mut text = Vec::new();
    file.take(MAX_SIZE).read_to_end(&mut text)?;
    Ok(Some(text))
}

impl AssetRecord {
    /// Whether this is a record of the asset as it is defined now, not of an earlier definition.
    pub(crate) fn is_of(&self, asset: &Asset) -> bool {
        self.file == asset.file_name.as_str()
            && match asset.digest {
                Some(pin) => self.sha256 == pin,
                None => self.url_sha256 == asset.url.fingerprint(),
            }
    }
}
