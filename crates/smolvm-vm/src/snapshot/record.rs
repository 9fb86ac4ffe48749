//! [`SnapshotRecord`]: what is written down of a snapshot, and who can go on from it.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use smolvm_image::Digest;
use smolvm_protocol::Nonce;

use super::content::Content;
use super::error::SnapshotError;
use crate::accel::Accelerator;
use crate::backend::Version;
use crate::config::{BackendChoice, NetworkMode};
use crate::disk::IsolatedDisk;
use crate::error::VmError;
use crate::id::VmId;
use crate::record::{EgressRecord, FileIdentity, Started};

/// The name of the file in the snapshot's directory.
pub(super) const RECORD: &str = "snapshot.json";

/// What the file says: a record, and its digest.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed {
    /// The version of this format, which is looked at before anything else.
    version: u32,
    /// The SHA-256 of the record as it is written without white space.
    digest: Digest,
    record: serde_json::Value,
}

/// Of another version nothing else need be as it is here.
#[derive(Debug, Deserialize)]
struct Versioned {
    version: u32,
}

/// What a snapshot is of, and what it is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SnapshotRecord {
    /// The version of the program that made it.
    pub(super) smolvm: String,
    /// The version of what is said between the host and the guest's agent, which is in the memory.
    pub(super) protocol: u16,
    /// When it was made, in seconds since 1970.
    pub(super) created: u64,
    /// The machine that it was made of.
    pub(super) id: VmId,
    pub(super) backend: BackendChoice,
    pub(super) started: Started,
    /// The host's processor, where the guest runs on that.
    pub(super) processor: Option<String>,
    pub(super) mem_size_mib: u32,
    /// As it was asked for.
    pub(super) vcpu_count: Option<u32>,
    pub(super) kernel: ImageFile,
    pub(super) initrd: Option<ImageFile>,
    pub(super) rootfs: ImageFile,
    pub(super) boot_args: Option<String>,
    pub(super) disk: IsolatedDisk,
    pub(super) network: NetworkMode,
    pub(super) egress: EgressRecord,
    pub(super) nested_virtualization: bool,
    /// The nonce of the session with the agent.
    pub(super) session: Nonce,
    /// The files beside the record.
    pub(super) files: Files,
}

/// The files of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Files {
    pub(super) memory: Content,
    /// The state of the devices, where that is no part of the memory.
    pub(super) state: Option<Content>,
    pub(super) disk: Content,
}

/// A file of the image that the machine was made of, which is not in the snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ImageFile {
    pub(super) path: PathBuf,
    pub(super) digest: Digest,
    /// As long as this is the same, the digest need not be looked at.
    identity: FileIdentity,
}

/// The version of the format that this program writes and reads.
const VERSION: u32 = 1;

/// No record is longer, in bytes.
const LONGEST: u64 = 1 << 20;

impl SnapshotRecord {
    /// The text of the file.
    pub(super) fn seal(&self) -> io::Result<(Vec<u8>, Digest)> {
        let digest = Digest::of(&serde_json::to_vec(self)?);
        let record = serde_json::to_value(self)?;
        let mut text = serde_json::to_vec_pretty(&Sealed { version: VERSION, digest, record })?;
        text.push(b'\n');
        Ok((text, digest))
    }

    /// Reads the record of the snapshot in a directory.
    pub(super) fn read(directory: &Path) -> Result<(Self, Digest), SnapshotError> {
        let path = directory.join(RECORD);
        let file = File::open(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                SnapshotError::NotFound { path: directory.to_owned() }
            }
            _ => SnapshotError::io(&path, "open", error),
        })?;
        let mut text = Vec::new();
        file.take(LONGEST)
            .read_to_end(&mut text)
            .map_err(|error| SnapshotError::io(&path, "read", error))?;
        let damaged = |error: serde_json::Error| SnapshotError::damaged(&path, error.to_string());
        let Versioned { version } = serde_json::from_slice(&text).map_err(damaged)?;
        if version != VERSION {
            return Err(SnapshotError::Foreign {
                path: directory.to_owned(),
                made_with: format!("version {version} of the format"),
                here: format!("version {VERSION}"),
            });
        }
        let sealed: Sealed = serde_json::from_slice(&text).map_err(damaged)?;
        let record: Self = serde_json::from_value(sealed.record).map_err(damaged)?;
        if Digest::of(&serde_json::to_vec(&record).map_err(damaged)?) != sealed.digest {
            return Err(SnapshotError::damaged(&path, "its digest is another one"));
        }
        Ok((record, sealed.digest))
    }

    /// Refuses what was made by what is not here.
    pub(super) fn check_host(&self, directory: &Path, here: &Host) -> Result<(), SnapshotError> {
        let foreign = |made_with: String, here: String| {
            Err(SnapshotError::Foreign { path: directory.to_owned(), made_with, here })
        };
        if self.protocol != smolvm_protocol::VERSION {
            let said = |version| format!("version {version} of the agent's protocol");
            return foreign(said(self.protocol), said(smolvm_protocol::VERSION));
        }
        if self.started.version != here.version {
            let said = |version| format!("{} {version}", here.vmm);
            return foreign(said(self.started.version), said(here.version));
        }
        if self.started.accelerator != here.accelerator {
            let said = |accelerator| match accelerator {
                Accelerator::Kvm => "KVM".to_owned(),
                Accelerator::Tcg => "emulation (TCG)".to_owned(),
            };
            return foreign(said(self.started.accelerator), said(here.accelerator));
        }
        if self.processor != here.processor {
            let said = |processor: &Option<String>| {
                format!("the processor {}", processor.as_deref().unwrap_or("of no name"))
            };
            return foreign(said(&self.processor), said(&here.processor));
        }
        Ok(())
    }
}

/// What would go on from a snapshot.
#[derive(Debug)]
pub(super) struct Host {
    /// What the VMM is called.
    pub(super) vmm: &'static str,
    pub(super) version: Version,
    pub(super) accelerator: Accelerator,
    pub(super) processor: Option<String>,
}

impl ImageFile {
    /// That of an open file.
    pub(super) fn of(file: &File, path: &Path) -> Result<Self, VmError> {
        let digest = digest(file).map_err(|error| SnapshotError::io(path, "read", error))?;
        let identity = FileIdentity::of(file, path)?;
        Ok(Self { path: path.to_owned(), digest, identity })
    }

    /// Refuses an open file that is another one, or not as it was. The same content elsewhere, or
    /// fetched again, will do.
    pub(super) fn check(&self, file: &File, snapshot: &Path) -> Result<(), VmError> {
        if FileIdentity::of(file, &self.path)? == self.identity {
            return Ok(());
        }
        let digest = digest(file).map_err(|error| SnapshotError::io(&self.path, "read", error))?;
        if digest == self.digest {
            return Ok(());
        }
        let (path, image) = (snapshot.to_owned(), self.path.clone());
        Err(SnapshotError::ImageChanged { path, image }.into())
    }
}

/// The host's processor, where a guest runs on that: what it is called, and what it can do.
pub(super) fn processor(accelerator: Accelerator) -> Option<String> {
    if accelerator == Accelerator::Tcg {
        return None;
    }
    let text = fs_err::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let value = |names: &[&str]| {
        text.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            names.contains(&name.trim_end()).then(|| value.trim().to_owned())
        })
    };
    let name = value(&["model name", "CPU part"]).unwrap_or_default();
    let features = value(&["flags", "Features"]).unwrap_or_default();
    let features = Digest::of(features.as_bytes()).to_string();
    Some(format!("{name}, features {}", features.get(..8).unwrap_or_default()))
}

/// The SHA-256 digest of a file. Its cursor stays where it is.
fn digest(file: &File) -> io::Result<Digest> {
    use std::os::unix::fs::FileExt as _;

    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    let mut offset = 0;
    loop {
        match file.read_at(&mut buffer, offset) {
            Ok(0) => return Ok(hasher.into()),
            Ok(count) => {
                hasher.update(&buffer[..count]);
                offset += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{Variant, Version};
    use crate::disk::Isolation;

    fn record() -> SnapshotRecord {
        let file = tempfile::tempfile().unwrap();
        let image = ImageFile::of(&file, Path::new("/images/one/rootfs.ext4")).unwrap();
        let content = Content::of(&file).unwrap();
        SnapshotRecord {
            smolvm: "0.1.0".to_owned(),
            protocol: smolvm_protocol::VERSION,
            created: 1_700_000_000,
            id: "one".parse().unwrap(),
            backend: BackendChoice::Qemu,
            started: Started {
                variant: Variant::MicrovmWithoutAcpi,
                accelerator: Accelerator::Kvm,
                vcpu_count: 2,
                version: Version(7, 2),
            },
            processor: Some("a processor".to_owned()),
            mem_size_mib: 512,
            vcpu_count: None,
            kernel: image.clone(),
            initrd: Some(image.clone()),
            rootfs: image,
            boot_args: None,
            disk: IsolatedDisk { isolation: Isolation::Overlay, size: 1 << 20 },
            network: NetworkMode::User,
            egress: EgressRecord::default(),
            nested_virtualization: false,
            session: [7; 16],
            files: Files { memory: content, state: None, disk: content },
        }
    }

    fn here() -> Host {
        let (version, accelerator) = (Version(7, 2), Accelerator::Kvm);
        Host { vmm: "QEMU", version, accelerator, processor: Some("a processor".to_owned()) }
    }

    #[test]
    fn what_is_written_is_read_and_what_was_changed_is_not() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join(RECORD);
        let error = SnapshotRecord::read(temp.path()).unwrap_err();
        assert!(matches!(error, SnapshotError::NotFound { .. }), "{error}");
        let record = record();
        let (text, digest) = record.seal().unwrap();
        fs_err::write(&path, &text).unwrap();
        assert_eq!(SnapshotRecord::read(temp.path()).unwrap(), (record, digest));

        // Every byte counts that is more than white space between others.
        let text = String::from_utf8(text).unwrap();
        for (from, to) in [("512", "513"), ("\"one\"", "\"two\""), ("\"created\"", "\"made\"")] {
            fs_err::write(&path, text.replacen(from, to, 1)).unwrap();
            let error = SnapshotRecord::read(temp.path()).unwrap_err();
            assert!(matches!(error, SnapshotError::Damaged { .. }), "{error}");
        }
        // A later version may say other things, and all of it may be other.
        fs_err::write(&path, "{\"version\": 2, \"other\": []}").unwrap();
        let error = SnapshotRecord::read(temp.path()).unwrap_err();
        assert!(matches!(error, SnapshotError::Foreign { .. }), "{error}");
        assert!(error.to_string().contains("version 2 of the format"), "{error}");
    }

    #[test]
    fn what_was_made_by_another_program_or_processor_is_refused_with_both() {
        let path = Path::new("/snapshots/one");
        record().check_host(path, &here()).unwrap();
        let refused = |record: &SnapshotRecord, here: &Host| {
            record.check_host(path, here).unwrap_err().to_string()
        };
        let said = refused(&record(), &Host { version: Version(8, 0), ..here() });
        assert!(said.contains("was made with QEMU 7.2, and here is QEMU 8.0"), "{said}");
        let said = refused(&record(), &Host { accelerator: Accelerator::Tcg, ..here() });
        assert!(said.contains("was made with KVM, and here is emulation (TCG)"), "{said}");
        let other = Some("another one".to_owned());
        let said = refused(&record(), &Host { processor: other, ..here() });
        assert!(said.contains("the processor a processor, and here is the processor another"));
        let said = refused(&SnapshotRecord { protocol: 0, ..record() }, &here());
        assert!(said.contains("version 0 of the agent's protocol"), "{said}");
        assert!(said.contains("Restore it where it was made, or make it anew"), "{said}");
    }

    #[test]
    fn the_same_content_is_the_same_file_and_another_one_is_not() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("rootfs.ext4");
        let open = |content: &str| {
            let _ = fs_err::remove_file(&path);
            fs_err::write(&path, content).unwrap();
            File::open(&path).unwrap()
        };
        let image = ImageFile::of(&open("as it was"), &path).unwrap();
        image.check(&open("as it was"), temp.path()).unwrap();
        let error = image.check(&open("otherwise"), temp.path()).unwrap_err().to_string();
        assert!(error.contains("rootfs.ext4 has changed since the snapshot"), "{error}");
    }
}
