//! [`CachedImage`]: an image that is used by the paths of its files, and is in use all the same.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::cache;
use crate::cancel::CancelToken;
use crate::error::ImageError;
use crate::name::ImageName;

/// An image in a cache, told by the path of one of its files.
///
/// For programs that got paths of a cache, and open the files themselves.
/// [`OpenImage`](crate::OpenImage) does all this by itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CachedImage {
    cache_dir: PathBuf,
    name: ImageName,
}

impl CachedImage {
    /// The image that a file belongs to; `None` for a file that lies in no cache.
    ///
    /// ```
    /// use smolvm_image::CachedImage;
    ///
    /// assert!(CachedImage::of_file("/boot/vmlinuz".as_ref()).is_none());
    /// ```
    #[must_use]
    pub fn of_file(path: &Path) -> Option<Self> {
        // Links on the way to the cache are the user's own; there are none inside.
        let directory = fs_err::canonicalize(path.parent()?).ok()?;
        let name: ImageName = directory.file_name()?.to_str()?.parse().ok()?;
        let cache_dir = directory.parent()?;
        let dir = cache::open_image(cache_dir, &name).ok()??;
        let is_cached = cache::is_cache(cache_dir) && dir.inode_of(cache::RECORD_FILE).is_some();
        is_cached.then(|| Self { cache_dir: cache_dir.to_owned(), name })
    }

    /// The name of the image.
    #[must_use]
    pub fn name(&self) -> &ImageName {
        &self.name
    }

    /// Holds a file of the image, opened by its path, with a shared lock, and notes that the image
    /// was used. The lock lasts as long as anybody has this descriptor or a copy of it.
    ///
    /// `false`: the path does not lead to this file any more, because somebody has removed or
    /// replaced it. Open it again.
    #[must_use]
    pub fn hold(&self, file: &File, path: &Path) -> bool {
        if cache::hold(file, &CancelToken::new()).is_err() {
            return false;
        }
        let identity = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
        let (Ok(held), Ok(found)) = (file.metadata(), fs_err::metadata(path)) else {
            return false;
        };
        cache::note_use(&self.cache_dir, &self.name);
        identity(held) == identity(found)
    }

    /// Keeps the image in use as long as a directory exists, such as that of a virtual machine
    /// which is stopped and will need the files again. The directory is told from a later one of
    /// the same name.
    ///
    /// `false`: that cannot be noted, since this user cannot write to the cache.
    ///
    /// # Errors
    /// [`ImageError::Io`] where the directory cannot be looked at, or the disk is full.
    pub fn keep_for(&self, directory: &Path) -> Result<bool, ImageError> {
        cache::note_holder(&self.cache_dir, &self.name, directory)
    }
}
