//! What the tests make disks from, and where.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Seek as _;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use smolvm_testkit::content::{noise, sha256_hex};
use smolvm_testkit::skip;
use tempfile::TempDir;

use crate::disk::{Base, Capabilities, IsolatedDisk, Isolation, Request};

pub(super) const MIB: u64 = 1 << 20;

/// A VM whose VMM is QEMU and whose kernel is Debian's.
pub(super) const EVERYTHING: Capabilities = Capabilities { qcow2: true, overlayfs: true };
/// A VM on which only the host's file system can share blocks.
pub(super) const NOTHING: Capabilities = Capabilities { qcow2: false, overlayfs: false };

/// A cached root file system, as far as disks care: data, a hole, data, a hole; read-only.
pub(super) struct Image {
    pub(super) file: File,
    pub(super) path: PathBuf,
    before: String,
}

impl Image {
    pub(super) const SIZE: u64 = 24 * MIB;
    /// How much of it is data.
    pub(super) const DATA: u64 = 6 * MIB;
    /// Where its cursor is, which nobody may move.
    const CURSOR: u64 = 4711;

    pub(super) fn in_directory(directory: &Path) -> Self {
        let path = directory.join("rootfs.ext4");
        let file = File::create(&path).unwrap();
        file.set_len(Self::SIZE).unwrap();
        file.write_all_at(&noise(1, 2 << 20), 0).unwrap();
        file.write_all_at(&noise(2, 4 << 20), 12 * MIB).unwrap();
        // `FICLONE` would wait for it.
        file.sync_all().unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
        let mut file = File::open(&path).unwrap();
        file.seek(std::io::SeekFrom::Start(Self::CURSOR)).unwrap();
        let before = sha256_hex(&read_all(&file));
        Self { file, path, before }
    }

    pub(super) fn base(&self) -> Base<'_> {
        Base { file: &self.file, path: &self.path }
    }

    /// Behaviour 44: the image still verifies.
    pub(super) fn assert_untouched(mut self) {
        assert_eq!(sha256_hex(&read_all(&self.file)), self.before);
        assert_eq!(self.file.stream_position().unwrap(), Self::CURSOR);
    }
}

pub(super) fn read_all(file: &File) -> Vec<u8> {
    let length = usize::try_from(file.metadata().unwrap().len()).unwrap();
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

pub(super) fn request(isolation: Option<Isolation>, capabilities: Capabilities) -> Request {
    Request { size: None, isolation, capabilities }
}

/// The only file in a directory is that of the disk, and only its user may read it.
pub(super) fn assert_alone_and_private(directory: &Path, disk: &IsolatedDisk) {
    let listing = std::fs::read_dir(directory).unwrap();
    let names: Vec<_> = listing.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, [OsStr::new(disk.isolation.file_name())]);
    let mode = std::fs::metadata(disk.path(directory)).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
}

/// A file system in a file, mounted until dropped.
pub(super) struct LoopMount {
    directory: TempDir,
}

impl LoopMount {
    /// A file system of `size` bytes that `mkfs` makes; `None`, with the reason printed, where
    /// that cannot be had.
    pub(super) fn new(mkfs: &[&str], size: u64) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let image = directory.path().join("fs.img");
        File::create(&image).unwrap().set_len(size).unwrap();
        let target = directory.path().join("mnt");
        std::fs::create_dir(&target).unwrap();
        run(Command::new(mkfs[0]).args(&mkfs[1..]).arg(&image))?;
        run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&target))?;
        Some(Self { directory })
    }

    pub(super) fn path(&self) -> PathBuf {
        self.directory.path().join("mnt")
    }
}

impl Drop for LoopMount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).status();
    }
}

/// Runs a program to its end; `None`, with the reason printed, where it fails.
fn run(command: &mut Command) -> Option<()> {
    match command.output() {
        Ok(output) if output.status.success() => Some(()),
        Ok(output) => {
            skip(&format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)));
            None
        }
        Err(error) => {
            skip(&format!("{command:?}: {error}"));
            None
        }
    }
}

/// Runs one of QEMU's tools, which succeeds; returns what it prints. `None`, with the reason
/// printed, where it is not installed.
pub(super) fn qemu_tool(name: &str, arguments: &[&str]) -> Option<String> {
    let output = match Command::new(name).args(arguments).output() {
        Ok(output) => output,
        Err(error) => {
            skip(&format!("{name} (Debian's qemu-utils): {error}"));
            return None;
        }
    };
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} {arguments:?}: {said}{complaints}");
    Some(said)
}

/// How QEMU's tools are told of an overlay over a base.
pub(super) fn overlay_over(base: &Path, overlay: &Path) -> String {
    let backing = serde_json::json!({
        "driver": "raw", "read-only": true,
        "file": {"driver": "file", "filename": base},
    });
    let file = serde_json::json!({"driver": "file", "filename": overlay});
    let node = serde_json::json!({"driver": "qcow2", "file": file, "backing": backing});
    format!("json:{node}")
}
