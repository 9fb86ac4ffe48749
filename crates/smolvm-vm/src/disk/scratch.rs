//! An empty ext4 disk for what the guest changes, beside the base as a read-only disk; the agent
//! joins the two by overlayfs.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use super::Isolation;
use super::error::DiskError;
use super::program;
use super::staging::Staging;

/// The least bytes of a scratch disk: it costs next to nothing on the host while it is empty, and
/// a small image is not to leave its guest without room.
const LEAST: u64 = 1 << 30;

/// The features that every ext4 of the last ten years reads, in place of those that this host's
/// configuration asks for.
const FEATURES: &str = "none,has_journal,ext_attr,dir_index,filetype,extent,flex_bg,sparse_super,\
                        large_file,huge_file,dir_nlink,extra_isize";

const PROGRAM: &str = "mke2fs";

/// Makes a disk of at least `size` bytes; returns its size.
pub(super) fn make(directory: &Path, size: u64) -> Result<u64, DiskError> {
    let size = size.max(LEAST);
    let disk = Staging::create(directory, Isolation::Scratch)?;
    disk.set_length(size)?;
    let output = Command::new(program::find(PROGRAM))
        .args(["-q", "-F", "-t", "ext4", "-m", "0", "-O", FEATURES])
        // What is discarded is a hole and reads as zeros, so that neither mke2fs nor the guest
        // writes them.
        .args(["-E", "discard,lazy_itable_init=1,lazy_journal_init=1,root_owner=0:0"])
        .arg(disk.temporary_path())
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output();
    let output = match output {
        Ok(output) => output,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let reason = "the program mke2fs is missing; install the package e2fsprogs".to_owned();
            return Err(DiskError::Unsupported { isolation: "scratch", reason });
        }
        Err(error) => return Err(DiskError::io("start", Path::new(PROGRAM), error)),
    };
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        if said.contains("No space left on device") {
            let full = io::Error::from(io::ErrorKind::StorageFull);
            return Err(DiskError::write(disk.path(), size / 64, full));
        }
        let said = if said.is_empty() { output.status.to_string() } else { said };
        let path = disk.path().to_owned();
        return Err(DiskError::Program { program: PROGRAM, path, said });
    }
    disk.publish()?;
    Ok(size)
}
