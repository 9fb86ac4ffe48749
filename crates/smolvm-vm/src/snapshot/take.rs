//! Making a snapshot: the machine stands still while its memory and its disk are written, and goes
//! on in any case.

use std::io::Write as _;
use std::path::Path;

use smolvm_image::CancelToken;
use smolvm_protocol::Nonce;

use super::content::Content;
use super::error::SnapshotError;
use super::given::Given;
use super::record::{Files, ImageFile, RECORD, SnapshotRecord, processor};
use super::staging::Staging;
use super::{Snapshot, piped};
use crate::backend::{Backend, Firecracker};
use crate::config::BootFile;
use crate::disk::{self, Base, IsolatedDisk};
use crate::error::VmError;
use crate::pause::Note;
use crate::record::{DiskRecord, Record, Started, now};
use crate::supervisor;
use crate::vm::{Machine, SmolVm};

/// Makes a snapshot of a machine that runs or is paused.
pub(super) fn take(
    vm: &SmolVm,
    machine: &Machine,
    destination: &Path,
    cancel: &CancelToken,
) -> Result<Snapshot, VmError> {
    let record = &machine.record;
    let unsupported = |reason| SnapshotError::Unsupported { id: vm.id.to_string(), reason };
    let firecracker = match vm.backend {
        Backend::Qemu => None,
        Backend::Firecracker => Some(Firecracker::find()?),
    };
    if firecracker.as_ref().is_some_and(|firecracker| !firecracker.can_run_copies()) {
        let reason = "without a jail, its sockets are where those of a copy would be. Start it \
                      as root, with Firecracker's jailer, or choose QEMU as the backend";
        return Err(unsupported(reason).into());
    }
    let DiskRecord::Isolated(disk) = &record.disk else {
        let reason = "its disk is a file that it shares. Make it with a disk of its own";
        return Err(unsupported(reason).into());
    };
    let started = record.started.clone().ok_or_else(|| {
        unsupported("it was started by an earlier version of smolvm. Stop it and start it again")
    })?;
    let staging = Staging::create(destination)?;
    // What takes long and does not change is done while the machine runs.
    let image = Image::of(machine)?;
    let session = supervisor::session(&vm.dirs.state).ok_or_else(|| {
        unsupported("its agent does not answer, and would not in a copy of it either")
    })?;
    let taking = Taking { vm, firecracker, staging: &staging, disk, cancel };
    let saved = {
        let mut frozen = Frozen::new(vm)?;
        let saved = taking.save();
        frozen.thaw(saved)?
    };
    let (memory, state) = taking.keep(saved)?;
    let path = disk.path(staging.destination());
    let content = Content::of(&disk.open_to_read(staging.path())?);
    let files = Files {
        memory,
        state,
        disk: content.map_err(|error| SnapshotError::io(&path, "read", error))?,
    };
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
    /// Those that the machine runs on, where this process has them open: others may lie under
    /// their paths by now.
    fn of(machine: &Machine) -> Result<Self, VmError> {
        let Machine { record, assets, .. } = machine;
        // Nothing could go on from a disk that lies over another one.
        let rootfs = BootFile::at(&record.rootfs).open()?;
        record.check_base(&rootfs)?;
        if let Some(assets) = assets {
            let initrd = assets.initrd.as_deref().zip(record.initrd.as_deref());
            return Ok(Self {
                kernel: ImageFile::of(assets.image_kernel(), &record.kernel)?,
                initrd: initrd.map(|(file, path)| ImageFile::of(file, path)).transpose()?,
                rootfs: ImageFile::of(&assets.rootfs, &record.rootfs)?,
            });
        }
        let file = |path: &Path| ImageFile::of(&*BootFile::at(path).open()?, path);
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
    note: Note,
    /// Whether it is to go on.
    ran: bool,
}

impl<'a> Frozen<'a> {
    fn new(vm: &'a SmolVm) -> Result<Self, VmError> {
        let mut note = Note::take(&vm.dirs)?;
        let ran = note.pause(&vm.id, vm.backend, true)?;
        Ok(Self { vm, note, ran })
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
        self.note.resume(&self.vm.id, self.vm.backend)
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
    /// What runs it, if that is not QEMU.
    firecracker: Option<Firecracker>,
    staging: &'a Staging,
    disk: &'a IsolatedDisk,
    cancel: &'a CancelToken,
}

impl<'a> Taking<'a> {
    /// Writes what the machine is, while it stands still.
    fn save(&self) -> Result<Saved<'a>, VmError> {
        let saved = match &self.firecracker {
            None => Saved::Kept(piped::save(self.vm, self.staging, self.cancel)?),
            Some(firecracker) => {
                Saved::Given(Given::save(self.vm, firecracker, self.staging.destination())?)
            }
        };
        if self.cancel.is_cancelled() {
            return Err(self.staging.cancelled().into());
        }
        // What the guest has written by then, and nothing after that.
        let path = self.disk.path(&self.vm.dirs.state);
        let file = self.disk.open_to_read(&self.vm.dirs.state)?;
        let base = Base { file: &file, path: &path };
        disk::duplicate(self.disk, base, self.staging.path())?;
        Ok(saved)
    }

    /// Puts what was saved into the snapshot; the machine has gone on.
    fn keep(&self, saved: Saved<'_>) -> Result<(Content, Option<Content>), VmError> {
        match saved {
            Saved::Kept(memory) => Ok((memory, None)),
            Saved::Given(given) => {
                let (memory, state) = given.keep(self.staging)?;
                Ok((memory, Some(state)))
            }
        }
    }
}

/// What a VMM has written of memory and devices.
enum Saved<'a> {
    /// It is in the snapshot.
    Kept(Content),
    /// It is in files of the VMM's.
    Given(Given<'a>),
}

fn describe(
    record: &Record,
    started: Started,
    disk: &IsolatedDisk,
    image: Image,
    session: Nonce,
    files: Files,
) -> SnapshotRecord {
    SnapshotRecord {
        smolvm: env!("CARGO_PKG_VERSION").to_owned(),
        protocol: smolvm_protocol::VERSION,
        created: now(),
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
