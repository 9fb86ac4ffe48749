//! What QEMU writes of memory and devices, on its way through a pipe into a snapshot: QEMU could open
//! no file, and its files may not become that long.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use smolvm_image::CancelToken;

use super::MEMORY;
use super::content::{Content, Hasher};
use super::error::SnapshotError;
use super::staging::Staging;
use crate::backend::Qmp;
use crate::error::VmError;
use crate::vm::SmolVm;

/// Why not all was copied.
enum Copying {
    Read(io::Error),
    Write(io::Error),
    Cancelled,
}

/// How long a VMM may be silent while it writes.
const SILENCE: Duration = Duration::from_secs(30);

/// How much is read from a VMM at once.
const BUFFER: usize = 256 * 1024;

/// How often it is looked whether it is cancelled.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Has QEMU write memory and devices of a machine that stands still, and puts them into a snapshot.
pub(super) fn save(
    vm: &SmolVm,
    staging: &Staging,
    cancel: &CancelToken,
) -> Result<Content, VmError> {
    let path = staging.destination().join(MEMORY);
    let failed = |reason: String| SnapshotError::NotSaved {
        id: vm.id.to_string(),
        path: staging.destination().to_owned(),
        reason,
    };
    let file = staging.file(MEMORY)?;
    let mut qmp =
        Qmp::connect(&vm.dirs.qmp_socket(), SILENCE).map_err(|error| failed(error.to_string()))?;
    let (reader, writer) =
        io::pipe().map_err(|error| SnapshotError::io(&path, "make a pipe for", error))?;
    let begun = qmp.migrate(writer.as_fd());
    drop(writer);
    begun.map_err(|error| failed(error.to_string()))?;
    let copied = copy(reader, &file, cancel);
    qmp.allow(SILENCE);
    let migrated = qmp.migrated();
    let content = copied.map_err(|error| match error {
        Copying::Read(error) => failed(format!("QEMU stopped writing: {error}")),
        Copying::Write(error) => SnapshotError::io(&path, "write", error),
        Copying::Cancelled => staging.cancelled(),
    })?;
    migrated.map_err(|error| failed(error.to_string()))?;
    Ok(content)
}

/// Copies what comes out of a pipe.
fn copy(
    mut reader: io::PipeReader,
    mut file: &File,
    cancel: &CancelToken,
) -> Result<Content, Copying> {
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        wait(&reader, cancel)?;
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(hasher.end()),
            Ok(count) => {
                file.write_all(&buffer[..count]).map_err(Copying::Write)?;
                hasher.push(&buffer[..count]);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Copying::Read(error)),
        }
    }
}

/// Waits until something can be read, but not for ever.
fn wait(reader: &io::PipeReader, cancel: &CancelToken) -> Result<(), Copying> {
    let deadline = Instant::now() + SILENCE;
    let look_again = Timespec::try_from(LOOK_AGAIN).ok();
    while !cancel.is_cancelled() {
        match poll(&mut [PollFd::new(reader, PollFlags::IN)], look_again.as_ref()) {
            Ok(0) if Instant::now() >= deadline => {
                return Err(Copying::Read(io::ErrorKind::TimedOut.into()));
            }
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return Ok(()),
            Err(error) => return Err(Copying::Read(error.into())),
        }
    }
    Err(Copying::Cancelled)
}
