//! From the global options to an [`ImageManager`].

use std::ffi::OsStr;
use std::time::Duration;

use smolvm::{ImageManager, Registry};

use crate::cli::GlobalOptions;
use crate::failure::Failure;

/// When what was fetched is written to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// Before the command goes on.
    Synced,
    /// In a while, as the command goes on for longer.
    SyncedLater,
    /// When the kernel thinks best, as the command is about to end.
    Unsynced,
}

/// The manager that the options describe. It reads the registry files and nothing else.
pub(crate) fn manager(
    options: &GlobalOptions,
    durability: Durability,
) -> Result<ImageManager, Failure> {
    let mut builder = ImageManager::builder()
        .registry(Registry::layered(&options.registries)?)
        .offline(options.offline)
        .sync(durability == Durability::Synced)
        .sync_later(durability == Durability::SyncedLater)
        .fs_verity(options.fs_verity)
        .verify(options.verify.unwrap_or_default());
    if let Some(directory) = given(options.cache_dir.as_deref()) {
        builder = builder.cache_dir(directory);
    }
    if let Some(file) = given(options.ca_file.as_deref()) {
        builder = builder.ca_file(file);
    }
    if let Some(attempts) = options.attempts {
        builder = builder.attempts(attempts);
    }
    if let Some(seconds) = options.stall_timeout {
        builder = builder.stall_timeout(Duration::from_secs(seconds));
    }
    if let Some(bytes) = options.max_size {
        builder = builder.max_asset_size(bytes);
    }
    Ok(builder.build()?)
}

/// A value that is not blank: a variable that is set to nothing, in the environment or in the
/// script that made the command line, asks for the default.
pub(crate) fn given(value: Option<&OsStr>) -> Option<&OsStr> {
    value.filter(|value| !value.to_string_lossy().trim().is_empty())
}
