//! [`VerifyPolicy`]: when a cached file is hashed before it is used.

/// When a cached file is hashed before it is used.
///
/// ```
/// use smolvm_image::{ImageManager, Registry, VerifyPolicy};
///
/// # let temp = tempfile::tempdir()?;
/// let manager = ImageManager::builder()
///     .cache_dir(temp.path())
///     .registry(Registry::new())
///     .verify(VerifyPolicy::Changed)
///     .build()?;
/// # let _ = manager;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum VerifyPolicy {
    /// Always, every byte: whatever has happened to the file is found.
    #[default]
    Always,
    /// Where it may have changed since it was last verified: by its device, inode, size, times of
    /// modification and of change, noted in a stamp that only this user can write. Who can turn
    /// the clock back, or write to the disk below the file system, can deceive it; and damage of
    /// the disk itself is not looked for. Neither holds for files with fs-verity
    /// ([`fs_verity`](crate::ImageManagerBuilder::fs_verity)): of these the kernel tells in constant
    /// time which bytes it will read, or else fail to.
    Changed,
}
