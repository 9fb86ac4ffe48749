//! [`Registry`]: the images that are known by name, built in and from files, merged in a stated
//! order.

mod file;
mod place;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

pub use file::RegistryError;

use crate::image::ImageSource;
use crate::name::ImageName;

/// The images that every manager knows unless it is given another registry: `hello` and
/// `quickstart-x86_64`, as the Firecracker project publishes them.
///
/// No digest is published for them, so they have no pin: what arrives is recorded and checked on
/// every later use, but nothing vouches for the first download.
pub static BUILTIN_IMAGES: LazyLock<Registry> = LazyLock::new(|| {
    const BUCKET: &str = "https://s3.amazonaws.com/spec.ccfc.min/img";
    let hello = ImageSource::builder("hello")
        .kernel(&format!("{BUCKET}/hello/kernel/hello-vmlinux.bin"), None)
        .rootfs(&format!("{BUCKET}/hello/fsfiles/hello-rootfs.ext4"), None);
    let quickstart = ImageSource::builder("quickstart-x86_64")
        .kernel(&format!("{BUCKET}/quickstart_guide/x86_64/kernels/vmlinux.bin"), None)
        .rootfs(&format!("{BUCKET}/quickstart_guide/x86_64/rootfs/bionic.rootfs.ext4"), None);
    // Constants, which a test builds: none is left out.
    [hello, quickstart].into_iter().filter_map(|image| image.build().ok()).collect()
});

/// Images by name.
///
/// ```
/// use smolvm_image::{ImageSource, Registry};
///
/// let mut registry = Registry::builtin();
/// registry.insert(
///     ImageSource::builder("my-image")
///         .kernel("https://example.com/vmlinux.bin", None)
///         .rootfs("https://example.com/rootfs.ext4", None)
///         .build()?,
/// );
/// assert_eq!(registry.names(), ["hello", "my-image", "quickstart-x86_64"]);
/// # Ok::<(), smolvm_image::SourceError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registry {
    images: BTreeMap<ImageName, ImageSource>,
}

impl Registry {
    /// A registry without images.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The built-in images: a copy of [`BUILTIN_IMAGES`] to add others to.
    #[must_use]
    pub fn builtin() -> Self {
        BUILTIN_IMAGES.clone()
    }

    /// Reads a registry file: JSON where the name ends in `.json`, else TOML.
    ///
    /// ```toml
    /// [images.debian-12]
    /// kernel_url = "https://example.com/vmlinuz"
    /// kernel_sha256 = "…"
    /// rootfs_url = "https://example.com/rootfs.ext4"
    /// rootfs_sha256 = "…"
    /// # optional: initrd_url, initrd_sha256, boot_args,
    /// #           kernel_filename, initrd_filename, rootfs_filename
    /// ```
    ///
    /// # Errors
    /// A file that cannot be read, or that has anything wrong in it, is refused as a whole; the
    /// error names file, line and column and shows the line.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, RegistryError> {
        file::load(path.as_ref())
    }

    /// What the `smolvm` command knows: the built-in images, then `~/.smolvm/registry.toml` if
    /// there is one, then the file that `$SMOLVM_REGISTRY` names, then `files`. Where two have an
    /// image of the same name, the later one wins.
    ///
    /// # Errors
    /// As [`load`](Self::load). A file that is named and does not exist is an error.
    pub fn layered(files: &[PathBuf]) -> Result<Self, RegistryError> {
        let mut registry = Self::builtin();
        if let Some(path) = home::home_dir().map(|home| home.join(".smolvm/registry.toml")) {
            match Self::load(&path) {
                Ok(user) => registry.merge(user),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        let from_environment = std::env::var_os("SMOLVM_REGISTRY")
            .filter(|value| !value.to_string_lossy().trim().is_empty())
            .map(PathBuf::from);
        for path in from_environment.iter().chain(files) {
            registry.merge(Self::load(path)?);
        }
        Ok(registry)
    }

    /// Adds an image; gives back the one that it replaces.
    pub fn insert(&mut self, source: ImageSource) -> Option<ImageSource> {
        self.images.insert(source.name().clone(), source)
    }

    /// Adds all images of another registry, which win over those of the same name.
    pub fn merge(&mut self, other: Self) {
        self.images.extend(other.images);
    }

    /// The image of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&ImageSource> {
        self.images.get(name)
    }

    /// All names, sorted.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.images.keys().map(ToString::to_string).collect()
    }

    /// All images, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = &ImageSource> {
        self.images.values()
    }

    /// The known name that a mistyped one most likely meant.
    pub(crate) fn nearest(&self, name: &str) -> Option<String> {
        let wanted = name.to_lowercase();
        self.images
            .keys()
            .map(|known| (strsim::damerau_levenshtein(&wanted, &known.to_lowercase()), known))
            .filter(|(distance, known)| *distance <= known.len().min(wanted.len()) / 3)
            .min()
            .map(|(_, known)| known.to_string())
    }
}

impl FromIterator<ImageSource> for Registry {
    fn from_iter<T: IntoIterator<Item = ImageSource>>(sources: T) -> Self {
        Self { images: sources.into_iter().map(|image| (image.name().clone(), image)).collect() }
    }
}

impl ImageSource {
    /// The entry of this image as it stands in a TOML registry file. Its URLs are whole, with
    /// the secrets that they may hold: it is for a file, not for a log.
    #[must_use]
    pub fn to_registry_toml(&self) -> String {
        file::entry_to_toml(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_builtin_images_are_there_and_unpinned() {
        assert_eq!(BUILTIN_IMAGES.names(), ["hello", "quickstart-x86_64"]);
        assert!(BUILTIN_IMAGES.iter().flat_map(ImageSource::assets).all(|a| a.digest.is_none()));
    }

    #[test]
    fn later_registries_win_by_name() {
        let of = |url: &str| {
            ImageSource::builder("hello").kernel(url, None).rootfs(url, None).build().unwrap()
        };
        let mut registry = BUILTIN_IMAGES.clone();
        registry.merge(Registry::from_iter([of("http://mirror/x")]));
        assert_eq!(registry.names(), ["hello", "quickstart-x86_64"]);
        assert_eq!(registry.get("hello").unwrap().kernel().url.to_string(), "http://mirror/x");
    }

    /// Behaviour 38: a near miss is suggested, a far one is not.
    #[test]
    fn near_misses() {
        assert_eq!(BUILTIN_IMAGES.nearest("helo"), Some("hello".to_owned()));
        assert_eq!(BUILTIN_IMAGES.nearest("Hello"), Some("hello".to_owned()));
        assert_eq!(
            BUILTIN_IMAGES.nearest("quickstart-x86-64"),
            Some("quickstart-x86_64".to_owned())
        );
        assert_eq!(BUILTIN_IMAGES.nearest("nonexistent-image"), None);
    }
}
