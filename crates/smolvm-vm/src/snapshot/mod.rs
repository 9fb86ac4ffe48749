//! Snapshots: what a machine is at one moment, as a directory, from which any number of machines
//! go on ([`Snapshot`], [`RestoreConfig`]).
//!
//! ```text
//! <snapshot>/snapshot.json    what it is of, and the digests of all of it (`record`)
//! <snapshot>/memory           memory, and QEMU's devices, as the VMM writes them
//! <snapshot>/state            Firecracker's devices
//! <snapshot>/disk.*           the machine's own disk (`disk`); the image's files stay where they are
//! ```

mod calls;
mod content;
mod error;
mod given;
mod load;
mod piped;
mod record;
mod restore;
mod staging;
mod take;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use smolvm_image::Digest;

pub use self::error::SnapshotError;
pub(crate) use self::load::{LoadFailed, Source};
use self::record::{RECORD, SnapshotRecord};
pub use self::restore::RestoreConfig;
use self::restore::restore;
use self::take::take;
use crate::backend::firecracker::snapshot::{MEMORY, STATE};

/// A snapshot: a directory with what a machine was at one moment, its memory and its disk.
///
/// ```no_run
/// use smolvm_vm::{RestoreConfig, Vm, VmConfig};
///
/// let vm = Vm::boot(VmConfig::new("vmlinux.bin", "rootfs.ext4"))?;
/// vm.run("prepare whatever takes long")?;
/// let snapshot = vm.snapshot("prepared")?;
/// // Each goes on from there by itself, in a fraction of a boot.
/// let one = Vm::restore(&snapshot, RestoreConfig::new())?;
/// let other = Vm::restore(&snapshot, RestoreConfig::new())?;
/// # Ok::<(), smolvm_vm::VmError>(())
/// ```
///
/// It holds all that the guest had in memory, keys and passwords included: it is this user's
/// alone, and is to be kept like what it holds. It can be moved and copied. It goes with the files
/// of the image and with the version of the VMM that it was made with.
#[derive(Debug, Clone)]
pub struct Snapshot {
    path: PathBuf,
    record: SnapshotRecord,
    digest: Digest,
}

impl Snapshot {
    /// Reads what a snapshot is of. Its memory and its disk are looked at when a machine is made
    /// from it.
    ///
    /// # Errors
    /// [`SnapshotError::NotFound`], [`SnapshotError::Foreign`] for another version of the format,
    /// or [`SnapshotError::Damaged`].
    pub fn open(directory: impl AsRef<Path>) -> Result<Self, SnapshotError> {
        let directory = directory.as_ref();
        let path = std::path::absolute(directory)
            .map_err(|error| SnapshotError::io(directory, "find", error))?;
        let (record, digest) = SnapshotRecord::read(&path)?;
        Ok(Self { path, record, digest })
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The name of the machine that it was made of.
    #[must_use]
    pub fn id(&self) -> &str {
        self.record.id.as_str()
    }

    /// When it was made.
    #[must_use]
    pub fn created(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(self.record.created)
    }

    /// The digest of all of it: whoever keeps this elsewhere can have it compared before anything
    /// is started ([`RestoreConfig::digest`]).
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }
}
