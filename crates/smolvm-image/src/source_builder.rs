//! [`ImageSourceBuilder`]: the definition of an image from texts, and why one is refused.

use crate::asset_url::AssetUrlError;
use crate::digest::DigestError;
use crate::image::{Asset, ImageSource};
use crate::name::NameError;
use crate::progress::AssetKind;

/// Why an image cannot be defined so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The name of the image.
    #[error("{name:?} cannot be the name of an image: {reason}")]
    Name {
        /// The name as given.
        name: String,
        /// What is wrong with it.
        reason: NameError,
    },
    /// An address.
    #[error("{field}: {reason}")]
    Url {
        /// The field, such as `kernel_url`.
        field: String,
        /// What is wrong with it.
        reason: AssetUrlError,
    },
    /// A digest.
    #[error("{field}: {reason}")]
    Digest {
        /// The field, such as `kernel_sha256`.
        field: String,
        /// What is wrong with it.
        reason: DigestError,
    },
    /// The name of an asset's file.
    #[error("{field}: {name:?} cannot be a file name: {reason}")]
    FileName {
        /// The field, such as `kernel_filename`.
        field: String,
        /// The name as given.
        name: String,
        /// What is wrong with it.
        reason: NameError,
    },
    /// A field that every image has.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// Fields of an initrd without its address.
    #[error("{0} needs an initrd_url")]
    NoInitrd(&'static str),
    /// Two assets that would overwrite each other.
    #[error("{0} and {1} have the same file name {2:?}: give one of them another")]
    SameFileName(AssetKind, AssetKind, String),
    /// Control characters in the kernel command line.
    #[error("boot_args holds a control character")]
    BootArgs,
}

/// Collects the fields of an [`ImageSource`].
#[derive(Debug, Clone)]
#[must_use = "call build() to get the ImageSource"]
pub struct ImageSourceBuilder {
    name: String,
    kernel: AssetFields,
    initrd: AssetFields,
    rootfs: AssetFields,
    boot_args: Option<String>,
}

/// The fields of one asset as texts, before they are parsed.
#[derive(Debug, Clone, Default)]
pub(crate) struct AssetFields {
    pub(crate) url: Option<String>,
    pub(crate) digest: Option<String>,
    pub(crate) file_name: Option<String>,
}

impl ImageSourceBuilder {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            kernel: AssetFields::default(),
            initrd: AssetFields::default(),
            rootfs: AssetFields::default(),
            boot_args: None,
        }
    }

    /// The kernel: its URL and, unless it is to stay unchecked, its SHA-256 digest.
    pub fn kernel(mut self, url: &str, sha256: Option<&str>) -> Self {
        self.kernel.set(url, sha256);
        self
    }

    /// The root file system: its URL and, unless it is to stay unchecked, its SHA-256 digest.
    pub fn rootfs(mut self, url: &str, sha256: Option<&str>) -> Self {
        self.rootfs.set(url, sha256);
        self
    }

    /// The initial RAM disk: its URL and, unless it is to stay unchecked, its SHA-256 digest.
    pub fn initrd(mut self, url: &str, sha256: Option<&str>) -> Self {
        self.initrd.set(url, sha256);
        self
    }

    /// The name of an asset's file in the cache, instead of `vmlinux.bin`, `initrd.img` or
    /// `rootfs.ext4`.
    pub fn file_name(mut self, kind: AssetKind, name: &str) -> Self {
        self.fields(kind).file_name = Some(name.to_owned());
        self
    }

    /// The kernel command line.
    pub fn boot_args(mut self, boot_args: &str) -> Self {
        self.boot_args = Some(boot_args.to_owned());
        self
    }

    /// The fields of one asset.
    pub(crate) fn fields(&mut self, kind: AssetKind) -> &mut AssetFields {
        match kind {
            AssetKind::Kernel => &mut self.kernel,
            AssetKind::Initrd => &mut self.initrd,
            AssetKind::Rootfs => &mut self.rootfs,
        }
    }

    /// Parses every field.
    ///
    /// # Errors
    /// The first field that is wrong, as a [`SourceError`].
    pub fn build(self) -> Result<ImageSource, SourceError> {
        let name = self
            .name
            .parse()
            .map_err(|reason| SourceError::Name { name: self.name.clone(), reason })?;
        let kernel =
            self.kernel.parse(AssetKind::Kernel)?.ok_or(SourceError::Missing("kernel_url"))?;
        let rootfs =
            self.rootfs.parse(AssetKind::Rootfs)?.ok_or(SourceError::Missing("rootfs_url"))?;
        let initrd = self.initrd.parse(AssetKind::Initrd)?;
        ImageSource::from_parts(name, kernel, initrd, rootfs, self.boot_args)
    }
}

impl AssetFields {
    fn set(&mut self, url: &str, digest: Option<&str>) {
        self.url = Some(url.to_owned());
        self.digest = digest.map(str::to_owned);
    }

    fn parse(self, kind: AssetKind) -> Result<Option<Asset>, SourceError> {
        let field = |suffix| format!("{kind}_{suffix}");
        let Some(url) = self.url else {
            return match (self.digest, self.file_name, kind) {
                (Some(_), _, AssetKind::Initrd) => Err(SourceError::NoInitrd("initrd_sha256")),
                (_, Some(_), AssetKind::Initrd) => Err(SourceError::NoInitrd("initrd_filename")),
                _ => Ok(None),
            };
        };
        let url = url.parse().map_err(|reason| SourceError::Url { field: field("url"), reason })?;
        let digest = self
            .digest
            .map(|digest| digest.parse())
            .transpose()
            .map_err(|reason| SourceError::Digest { field: field("sha256"), reason })?;
        let name = self.file_name.unwrap_or_else(|| kind.default_file_name().to_owned());
        let file_name = name.parse().map_err(|reason| SourceError::FileName {
            field: field("filename"),
            name,
            reason,
        })?;
        Ok(Some(Asset { kind, url, digest, file_name }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn builder() -> ImageSourceBuilder {
        ImageSource::builder("x").kernel("http://h/k", None).rootfs("http://h/r", None)
    }

    #[test]
    fn documented_file_names() {
        let source = builder().initrd("http://h/i", None).build().unwrap();
        let names: Vec<_> = source.assets().map(|asset| asset.file_name.to_string()).collect();
        assert_eq!(names, ["vmlinux.bin", "initrd.img", "rootfs.ext4"]);
    }

    /// Behaviour 2: a blank pin is refused when the image is defined, before any network work.
    #[test]
    fn blank_pin() {
        let error = builder().rootfs("http://h/r", Some("  ")).build().unwrap_err();
        assert!(matches!(error, SourceError::Digest { ref field, .. } if field == "rootfs_sha256"));
    }

    #[test]
    fn assets_do_not_overwrite_each_other() {
        let error = builder().file_name(AssetKind::Kernel, "Rootfs.ext4").build().unwrap_err();
        assert!(matches!(error, SourceError::SameFileName(..)), "{error}");
    }

    #[test]
    fn file_names_do_not_escape() {
        for name in ["../x", "/etc/passwd", "image.json", "", "a/b"] {
            let error = builder().file_name(AssetKind::Rootfs, name).build().unwrap_err();
            assert!(matches!(error, SourceError::FileName { .. }), "{name}: {error}");
        }
    }

    #[test]
    fn initrd_fields_need_an_initrd() {
        let error = builder().file_name(AssetKind::Initrd, "i").build().unwrap_err();
        assert_eq!(error, SourceError::NoInitrd("initrd_filename"));
    }
}
