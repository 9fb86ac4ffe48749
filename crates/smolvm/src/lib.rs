//! Images and microVMs for untrusted code: the crate to depend on.
//!
//! An image is a kernel, a root file system and, where it has one, an initial RAM disk. An
//! [`ImageManager`] turns its name into files that were verified, fetching what is missing:
//!
//! ```no_run
//! use smolvm::ImageManager;
//!
//! let manager = ImageManager::new()?;
//! let image = manager.ensure_image("hello")?;
//! println!("{}", image.kernel_path.display());
//! # Ok::<(), smolvm::ImageError>(())
//! ```
//!
//! Everything here blocks the thread that calls it. With the feature `tokio`, the module `tokio`
//! has the same calls to await.

#[cfg(feature = "tokio")]
pub mod tokio;

pub use smolvm_image::*;
pub use smolvm_vm::*;

/// Its Rust examples are tested with the others.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
