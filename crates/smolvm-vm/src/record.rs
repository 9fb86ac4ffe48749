//! [`Record`]: what is written down of a virtual machine, for other programs and later starts.

use std::fs::File;
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::accel::Accelerator;
use crate::backend::{Variant, Version};
use crate::config::{BackendChoice, NetworkMode};
use crate::disk::{BaseUse, IsolatedDisk};
use crate::error::VmError;
use crate::id::VmId;
use crate::network::{DestinationError, Egress};
use crate::places::VmDirs;

/// What `config.json` says of a machine. The environment of its commands is not in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The version of this format.
    pub(crate) version: u32,
    pub(crate) id: VmId,
    /// When it was made, in seconds since 1970.
    pub(crate) created: u64,
    pub(crate) detached: bool,
    pub(crate) kernel: PathBuf,
    pub(crate) initrd: Option<PathBuf>,
    pub(crate) rootfs: PathBuf,
    /// The root file system as it was when the disk was made of it.
    pub(crate) base: FileIdentity,
    pub(crate) boot_args: Option<String>,
    pub(crate) vcpu_count: Option<u32>,
    pub(crate) mem_size_mib: u32,
    /// The one that was chosen when it was made: its disk is made for that.
    pub(crate) backend: BackendChoice,
    pub(crate) disk: DiskRecord,
    pub(crate) network: NetworkMode,
    /// What the guest may reach there. Records of earlier versions do not say.
    #[serde(default)]
    pub(crate) egress: EgressRecord,
    /// Records of before it could be chosen lack it.
    #[serde(default)]
    pub(crate) nested_virtualization: bool,
    pub(crate) address: Option<IpAddr>,
    /// How it was started last. It runs like that, if it runs.
    #[serde(default)]
    pub(crate) started: Option<Started>,
    /// Where its sockets are while it runs: depends on who started it.
    pub(crate) runtime: PathBuf,
}

/// How a machine was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Started {
    pub(crate) variant: Variant,
    pub(crate) accelerator: Accelerator,
    pub(crate) vcpu_count: u32,
    /// The version of the VMM.
    pub(crate) version: Version,
}

/// Where what the guest writes goes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum DiskRecord {
    /// To a disk of its own.
    Isolated(IsolatedDisk),
    /// To the file itself.
    Shared,
}

impl DiskRecord {
    /// What a VMM needs the base for.
    pub(crate) fn base_use(&self) -> BaseUse {
        match self {
            Self::Isolated(disk) => disk.base_use(),
            Self::Shared => BaseUse::Unused,
        }
    }
}

/// What a guest may reach, as its text.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct EgressRecord(pub(crate) Egress);

impl TryFrom<String> for EgressRecord {
    type Error = DestinationError;

    fn try_from(text: String) -> Result<Self, DestinationError> {
        text.parse().map(Self)
    }
}

impl From<EgressRecord> for String {
    fn from(record: EgressRecord) -> Self {
        record.0.to_string()
    }
}

/// What tells whether a file has been changed or replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileIdentity {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Record {
    /// The version that this program writes.
    pub(crate) const VERSION: u32 = 1;

    /// Reads the record of a machine; `None` where there is no such machine.
    pub(crate) fn read(id: &VmId, dirs: &VmDirs) -> Result<Option<Self>, VmError> {
        let path = dirs.config();
        let text = match fs_err::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(VmError::io(&path, "read", error)),
        };
        let refused =
            |reason: String| VmError::Record { id: id.to_string(), path: path.clone(), reason };
        let record: Self =
            serde_json::from_slice(&text).map_err(|error| refused(error.to_string()))?;
        if record.version != Self::VERSION {
            return Err(refused(format!("its version is {}", record.version)));
        }
        if record.id != *id {
            return Err(refused(format!("it is of the VM '{}'", record.id)));
        }
        Ok(Some(record))
    }

    /// Refuses another file than the disk was made from: what the disk holds makes sense with that
    /// one alone.
    pub(crate) fn check_base(&self, rootfs: &File) -> Result<(), VmError> {
        if self.disk == DiskRecord::Shared || FileIdentity::of(rootfs, &self.rootfs)? == self.base {
            return Ok(());
        }
        Err(VmError::BaseChanged { id: self.id.to_string(), path: self.rootfs.clone() })
    }

    /// Writes the record in one step: who reads it sees all of it or nothing.
    pub(crate) fn write(&self, dirs: &VmDirs) -> Result<(), VmError> {
        let (path, new) = (dirs.config(), dirs.state.join(".config.json.new"));
        let write = || -> std::io::Result<()> {
            let text = serde_json::to_vec_pretty(self).map_err(std::io::Error::other)?;
            let mut file = fs_err::OpenOptions::new();
            file.write(true).create(true).truncate(true).options_mut().mode(0o600);
            let mut file = file.open(&new)?;
            file.write_all(&text)?;
            file.write_all(b"\n")?;
            fs_err::rename(&new, &path)
        };
        write().map_err(|error| VmError::io(&path, "write", error))
    }
}

/// The time in seconds since 1970, as records have it.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

impl FileIdentity {
    pub(crate) fn of(file: &File, path: &Path) -> Result<Self, VmError> {
        let metadata = file.metadata().map_err(|error| VmError::io(path, "look at", error))?;
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        })
    }
}
