//! The JSON objects of an image and its assets, as docs/cli.md describes them.

use std::path::Path;

use serde::Serialize;
use smolvm::{AssetKind, AssetReport, AssetStatus, Digest, ImageReport};

/// An image as the cache and the registries know it.
#[derive(Debug, Serialize)]
pub(crate) struct ImageObject {
    registered: bool,
    cached: bool,
    directory: String,
    disk_bytes: u64,
    boot_args: Option<String>,
    assets: Vec<AssetObject>,
}

/// One asset of it.
#[derive(Debug, Serialize)]
struct AssetObject {
    kind: AssetKind,
    path: String,
    /// Where the registry says that it is published, else where it came from.
    url: Option<String>,
    pinned: bool,
    pin: Option<Digest>,
    digest: Option<Digest>,
    size: Option<u64>,
    fetched_at: Option<String>,
    /// Adds `state` and, where it is damaged, `reason`.
    #[serde(flatten)]
    status: AssetStatus,
}

impl From<&ImageReport> for ImageObject {
    fn from(report: &ImageReport) -> Self {
        let boot_args = report.source.as_ref().and_then(|source| source.boot_args());
        Self {
            registered: report.source.is_some(),
            cached: report.cached,
            directory: path_text(&report.directory),
            disk_bytes: report.disk_bytes,
            boot_args: boot_args.map(str::to_owned),
            assets: report.assets.iter().map(|asset| AssetObject::new(report, asset)).collect(),
        }
    }
}

impl AssetObject {
    fn new(report: &ImageReport, asset: &AssetReport) -> Self {
        Self {
            kind: asset.kind,
            path: path_text(&asset.path),
            url: published_at(report, asset.kind).or_else(|| asset.url.clone()),
            pinned: asset.pin.is_some(),
            pin: asset.pin,
            digest: asset.digest,
            size: asset.size,
            fetched_at: asset.fetched_at.clone(),
            status: asset.status.clone(),
        }
    }
}

/// Where the registry says that an asset is published, without secrets.
pub(crate) fn published_at(report: &ImageReport, kind: AssetKind) -> Option<String> {
    let source = report.source.as_ref()?;
    source.assets().find(|asset| asset.kind == kind).map(|asset| asset.url.to_string())
}

/// A path as text; JSON has no other bytes than UTF-8.
pub(crate) fn path_text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
