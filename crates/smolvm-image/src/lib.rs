//! Fetch, cache and validate microVM images.
//!
//! An *image* is a name for two or three *assets*: a kernel, a root file system and sometimes an
//! initrd. The [`ImageManager`] turns the name into files on disk, the right bytes, whole, fetched
//! once and shared by every process:
//!
//! ```
//! use smolvm_image::{Digest, ImageManager, ImageSource, Registry};
//!
//! # let temp = tempfile::tempdir()?;
//! # let dir = temp.path();
//! # std::fs::write(dir.join("vmlinux"), b"a kernel")?;
//! # std::fs::write(dir.join("rootfs"), b"a root file system")?;
//! let source = ImageSource::builder("my-image")
//!     .kernel(&format!("file://{}/vmlinux", dir.display()), None)
//!     .rootfs(
//!         &format!("file://{}/rootfs", dir.display()),
//!         Some(&Digest::of(b"a root file system").to_string()),
//!     )
//!     .build()?;
//! let manager = ImageManager::builder()
//!     .cache_dir(dir.join("cache"))
//!     .registry(Registry::from_iter([source]))
//!     .build()?;
//! let image = manager.ensure_image("my-image")?;
//! assert_eq!(std::fs::read(&image.rootfs_path)?, b"a root file system");
//! assert!(manager.is_cached("my-image"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Everything blocks and runs on threads; [`FetchOptions`] takes a [`CancelToken`] and an observer
//! of [`Event`]s.

mod asset_url;
mod buffer;
mod builder;
mod cache;
mod cached_image;
mod cancel;
mod digest;
mod ensure;
mod error;
mod fetch;
mod holes;
mod http;
mod image;
mod inspect;
mod look;
mod manager;
mod name;
mod neighbours;
mod open_image;
mod options;
mod progress;
mod protect;
mod prune_options;
mod registry;
mod report;
mod side_by_side;
mod sniff;
mod source;
mod source_builder;
mod transfer;
mod unchanged;
mod verify_policy;
mod write_back;
mod write_out;

pub use asset_url::{AssetUrl, AssetUrlError};
pub use builder::ImageManagerBuilder;
pub use cached_image::CachedImage;
pub use cancel::CancelToken;
pub use digest::{Digest, DigestError};
pub use error::{ErrorKind, ImageError};
pub use image::{Asset, ImageSource, LocalImage};
pub use manager::ImageManager;
pub use name::{FileName, ImageName, NameError};
pub use open_image::OpenImage;
pub use options::FetchOptions;
pub use progress::{AssetKind, Event};
pub use prune_options::PruneOptions;
pub use registry::{BUILTIN_IMAGES, Registry, RegistryError};
pub use report::{
    AssetReport, AssetStatus, ImageReport, ImageUser, Leaving, Pruned, PrunedItem, Removed,
};
pub use source_builder::{ImageSourceBuilder, SourceError};
pub use transfer::{RetryPolicy, TransferError};
pub use verify_policy::VerifyPolicy;
