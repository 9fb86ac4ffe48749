//! Making a snapshot: the machine stands still while its memory and its disk are written, and goes
//! on in any case.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use smolvm_protocol::Nonce;

use super::content::{Content, Hasher};
use super::error::SnapshotError;
use super::record::{Files, ImageFile, RECORD, SnapshotRecord, processor};
use super::staging::Staging;
use super::{MEMORY, Snapshot};
use crate::backend::{Backend, Qmp};
use crate::config::BootFile;
use crate::disk::{self, Base, IsolatedDisk};
use crate::error::VmError;
use crate::pause::Note;
use crate::record::{DiskRecord, Record, Started};
use crate::supervisor;
use crate::vm::{Machine, SmolVm};

/// How long a VMM may be silent while it writes.
const SILENCE: Duration = Duration::from_secs(30);

/// How much is read from a VMM at once.
const BUFFER: usize = 256 * 1024;

/// Makes a snapshot of a machine that runs or is paused.
pub(super) fn take(
    vm: &SmolVm,
    machine: &Machine,
    destination: &Path,
) -> Result<Snapshot, VmError> {
    let record = &machine.record;
    let unsupported = |reason| SnapshotError::Unsupported { id: vm.id.to_string(), reason };
    let DiskRecord::Isolated(disk) = &record.disk else {
        let reason = "its disk is a file that it shares. Make it with a disk of its own";
        return Err(unsupported(reason).into());
    };
    let started = record.started.clone().ok_or_else(|| {
        unsupported("it was started by an earlier version of smolvm. Stop it and start it again")
    })?;
    let staging = Staging::create(destination)?;
    // What takes long and does not change is done while the machine runs.
    let image = Image::of(record)?;
    let session = supervisor::session(&vm.dirs.state).ok_or_else(|| {
        unsupported("its agent does not answer, and would not in a copy of it either")
    })?;
    let memory = {
        let mut frozen = Frozen::new(vm, record)?;
        let saved = Taking { vm, staging: &staging, disk }.save(frozen.backend);
        frozen.thaw(saved)?
    };
    let path = disk.path(staging.destination());
    let content = Content::of(&disk.open_to_read(staging.path())?);
    let files =
        Files { memory, disk: content.map_err(|error| SnapshotError::io(&path, "read", error))? };
    let record = describe(record, started, disk, image, session, files);
    let (text, digest) =
        record.seal().map_err(|error| SnapshotError::io(destination, "describe", error))?;
    let mut file = staging.file(RECORD)?;
    file.write_all(&text)
        .map_err(|error| SnapshotError::io(&staging.destination().join(RECORD), "write", error))?;
    let path = staging.destination().to_owned();
    staging.publish()?;
    Ok(Snapshot { path, record, digest })
}

/// The files of the image.
struct Image {
    kernel: ImageFile,
    initrd: Option<ImageFile>,
    rootfs: ImageFile,
}

impl Image {
    fn of(record: &Record) -> Result<Self, VmError> {
        let file = |path: &Path| ImageFile::of(&*BootFile::at(path).open()?, path);
        let rootfs = BootFile::at(&record.rootfs).open()?;
        record.check_base(&rootfs)?;
        Ok(Self {
            kernel: file(&record.kernel)?,
            initrd: record.initrd.as_deref().map(file).transpose()?,
            rootfs: ImageFile::of(&rootfs, &record.rootfs)?,
        })
    }
}

/// A machine that stands still, and goes on in any case, unless it stood still before.
struct Frozen<'a> {
    vm: &'a SmolVm,
    backend: Backend,
    note: Note,
    /// Whether it is to go on.
    ran: bool,
}

impl<'a> Frozen<'a> {
    fn new(vm: &'a SmolVm, record: &Record) -> Result<Self, VmError> {
        let backend = Backend::of(record.backend);
        let mut note = Note::take(&vm.dirs)?;
        let ran = note.pause(&vm.id, backend, true)?;
        Ok(Self { vm, backend, note, ran })
    }

    /// Lets it go on, and returns what was saved. Where both fail, the first is what is told.
    fn thaw<T>(&mut self, saved: Result<T, VmError>) -> Result<T, VmError> {
        let thawed = self.go_on();
        saved.and_then(|saved| thawed.map(|()| saved))
    }

    fn go_on(&mut self) -> Result<(), VmError> {
        if !std::mem::take(&mut self.ran) {
            return Ok(());
        }
        self.note.resume(&self.vm.id, self.backend)
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.go_on() {
            log::warn!("{error}");
        }
    }
}

/// A snapshot under way.
struct Taking<'a> {
    vm: &'a SmolVm,
    staging: &'a Staging,
    disk: &'a IsolatedDisk,
}

impl Taking<'_> {
    /// Writes what the machine is, while it stands still.
    fn save(&self, backend: Backend) -> Result<Content, VmError> {
        let memory = match backend {
            Backend::Qemu => self.save_qemu()?,
            Backend::Firecracker => {
                let (id, reason) =
                    (self.vm.id.to_string(), "Firecracker has no snapshots yet here");
                return Err(SnapshotError::Unsupported { id, reason }.into());
            }
        };
        // What the guest has written by then, and nothing after that.
        let path = self.disk.path(&self.vm.dirs.state);
        let file = self.disk.open_to_read(&self.vm.dirs.state)?;
        let base = Base { file: &file, path: &path };
        disk::duplicate(self.disk, base, self.staging.path())?;
        Ok(memory)
    }

    /// Has QEMU write memory and devices into a pipe: it could open no file, and its files may not
    /// become that long.
    fn save_qemu(&self) -> Result<Content, VmError> {
        let path = self.staging.destination().join(MEMORY);
        let failed = |reason: String| SnapshotError::NotSaved {
            id: self.vm.id.to_string(),
            path: self.staging.destination().to_owned(),
            reason,
        };
        let file = self.staging.file(MEMORY)?;
        let mut qmp = Qmp::connect(&self.vm.dirs.qmp_socket(), SILENCE)
            .map_err(|error| failed(error.to_string()))?;
        let (reader, writer) =
            io::pipe().map_err(|error| SnapshotError::io(&path, "make a pipe for", error))?;
        let begun = qmp.migrate(writer.as_fd());
        drop(writer);
        begun.map_err(|error| failed(error.to_string()))?;
        let copied = copy(reader, &file);
        qmp.allow(SILENCE);
        let migrated = qmp.migrated();
        let content = copied.map_err(|error| match error {
            Copying::Read(error) => failed(format!("QEMU stopped writing: {error}")),
            Copying::Write(error) => SnapshotError::io(&path, "write", error),
        })?;
        migrated.map_err(|error| failed(error.to_string()))?;
        Ok(content)
    }
}

/// Why not all was copied.
enum Copying {
    Read(io::Error),
    Write(io::Error),
}

/// Copies what comes out of a pipe.
fn copy(mut reader: io::PipeReader, mut file: &File) -> Result<Content, Copying> {
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        wait(&reader).map_err(Copying::Read)?;
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
fn wait(reader: &io::PipeReader) -> io::Result<()> {
    let timeout = Timespec::try_from(SILENCE).map_err(io::Error::other)?;
    match poll(&mut [PollFd::new(reader, PollFlags::IN)], Some(&timeout)) {
        Ok(0) => Err(io::ErrorKind::TimedOut.into()),
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn describe(
    record: &Record,
    started: Started,
    disk: &IsolatedDisk,
    image: Image,
    session: Nonce,
    files: Files,
) -> SnapshotRecord {
    let created = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    SnapshotRecord {
        smolvm: env!("CARGO_PKG_VERSION").to_owned(),
        protocol: smolvm_protocol::VERSION,
        created: created.as_secs(),
        id: record.id.clone(),
        backend: record.backend,
        processor: processor(started.accelerator),
        started,
        mem_size_mib: record.mem_size_mib,
        vcpu_count: record.vcpu_count,
        kernel: image.kernel,
        initrd: image.initrd,
        rootfs: image.rootfs,
        boot_args: record.boot_args.clone(),
        disk: disk.clone(),
        network: record.network,
        egress: record.egress.clone(),
        nested_virtualization: record.nested_virtualization,
        session,
        files,
    }
}
