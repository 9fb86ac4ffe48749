//! What the manager knows of the images in the cache, by looking and by hashing. Nothing here
//! fetches or changes anything.

use crate::cache::{self, Dir, Memory, Recorded};
use crate::error::ImageError;
use crate::image::{Asset, ImageSource};
use crate::manager::ImageManager;
use crate::name::ImageName;
use crate::options::FetchOptions;
use crate::progress::Event;
use crate::report::{AssetReport, AssetStatus, ImageReport};
use crate::side_by_side::side_by_side;

impl ImageManager {
    /// The names of the images that the cache has a directory of, sorted, whether the registry
    /// names them or not.
    ///
    /// # Errors
    /// Where the cache directory cannot be read.
    pub fn cached_names(&self) -> Result<Vec<String>, ImageError> {
        match cache::open_root(&self.cache_dir)? {
            Some(root) => {
                Ok(cache::image_names(&root)?.into_iter().map(|name| name.to_string()).collect())
            }
            None => Ok(Vec::new()),
        }
    }

    /// What is known of an image, by its record and its files' sizes. Hashes nothing. Works for
    /// images in the cache that the registry does not name, too.
    ///
    /// # Errors
    /// A name that is none, or that neither the registry nor the cache knows.
    pub fn inspect(&self, name: &str) -> Result<ImageReport, ImageError> {
        let subject = self.subject(name)?;
        let look = |asset: &Asset| {
            let mut report = self.report_of(&subject, asset);
            if let Some(dir) = &subject.dir {
                report.set_presence(cache::presence(dir, asset, subject.recorded(asset)));
            }
            report
        };
        let assets = subject.assets.iter().map(look).collect();
        self.report(subject, assets)
    }

    /// Hashes what the cache has of an image. Damage is in the report, not an error. An image
    /// that the registry does not name is held against its record.
    ///
    /// # Errors
    /// A name that is none, or that neither the registry nor the cache knows, or
    /// [`ImageError::Cancelled`].
    pub fn verify(&self, name: &str, options: &FetchOptions) -> Result<ImageReport, ImageError> {
        let subject = self.subject(name)?;
        let assets = subject.assets.iter().collect();
        let assets = side_by_side(assets, &options.cancel, |asset: &Asset, cancel| {
            let mut report = self.report_of(&subject, asset);
            if let Some(dir) = &subject.dir {
                let on_hash = |size| options.emit(asset.kind, &Event::Verifying { size });
                let recorded = subject.recorded(asset);
                report.set_finding(cache::check(dir, asset, recorded, cancel, on_hash)?);
            }
            Ok(report)
        })?;
        self.report(subject, assets)
    }

    fn subject(&self, name: &str) -> Result<Subject<'_>, ImageError> {
        let (name, source) = self.known(name)?;
        let dir = cache::open_image(&self.cache_dir, &name)?;
        let memory = dir.as_ref().map_or(Memory::None, Memory::read);
        let assets = match (source, memory.record()) {
            (Some(source), _) => source.assets().cloned().collect(),
            (None, Some(record)) => record.to_assets(),
            (None, None) => Vec::new(),
        };
        Ok(Subject { name, source, dir, memory, assets })
    }

    fn report_of(&self, subject: &Subject<'_>, asset: &Asset) -> AssetReport {
        let recorded = subject.recorded(asset).of(asset);
        AssetReport {
            kind: asset.kind,
            path: self.image_dir(&subject.name).join(asset.file_name.as_str()),
            url: recorded.map(|recorded| recorded.url.clone()),
            // What stands in for a pin where only the record knows the image is none.
            pin: asset.digest.filter(|_| subject.source.is_some()),
            digest: recorded.map(|recorded| recorded.sha256),
            size: recorded.map(|recorded| recorded.size),
            fetched_at: recorded.map(|recorded| recorded.fetched_at.clone()),
            status: AssetStatus::Missing,
        }
    }

    fn report(
        &self,
        subject: Subject<'_>,
        assets: Vec<AssetReport>,
    ) -> Result<ImageReport, ImageError> {
        Ok(ImageReport {
            directory: self.image_dir(&subject.name),
            source: subject.source.cloned(),
            cached: !assets.is_empty() && assets.iter().all(|asset| asset.status.is_good()),
            disk_bytes: subject.dir.as_ref().map_or(Ok(0), cache::disk_usage)?,
            name: subject.name,
            assets,
        })
    }
}

/// An image that is looked at.
struct Subject<'a> {
    name: ImageName,
    source: Option<&'a ImageSource>,
    dir: Option<Dir>,
    memory: Memory,
    /// By its definition, else by its record.
    assets: Vec<Asset>,
}

impl Subject<'_> {
    fn recorded(&self, asset: &Asset) -> Recorded<'_> {
        self.memory.of(asset.kind)
    }
}
