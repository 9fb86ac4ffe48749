//! Booting: from a machine's record to an agent that answers.

mod attempt;
mod failure;
mod spec;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use smolvm_image::CancelToken;

use self::failure::Failed;
pub(crate) use self::spec::ON_DISK;
use crate::accel::Accelerator;
use crate::assets::Assets;
use crate::backend::{Backend, Variant, Vmm};
use crate::boot_slot::BootSlot;
use crate::create;
use crate::error::VmError;
use crate::network;
use crate::record::Started;
use crate::session::Session;
use crate::snapshot::Source;
use crate::supervisor::Supervisor;
use crate::vm::{Machine, SmolVm};

/// What a machine is at its start.
#[derive(Clone, Copy)]
pub(crate) enum Origin<'a> {
    /// One that has just been switched on, and boots its kernel.
    Kernel,
    /// What it was when a snapshot was made of it.
    Snapshot(&'a Source),
}

/// One start of a machine.
struct Boot<'a> {
    vm: &'a SmolVm,
    origin: Origin<'a>,
    machine: &'a Machine,
    assets: &'a Assets,
    supervisor: &'a Supervisor,
    accelerator: Accelerator,
    backend: Backend,
    vmm: Vmm,
    timeout: Duration,
    deadline: Instant,
    cancel: &'a CancelToken,
}

/// Boots a machine, or has it go on from a snapshot, and returns once its agent answers.
pub(crate) fn boot(
    vm: &SmolVm,
    machine: &mut Machine,
    origin: Origin<'_>,
    timeout: Duration,
    cancel: &CancelToken,
) -> Result<Session, VmError> {
    let assets = match machine.assets.take() {
        Some(assets) => assets,
        None => Assets::reopen(&machine.record, &vm.dirs)?,
    };
    let assets = machine.assets.insert(assets);
    if machine.supervisor.is_none() {
        if !machine.record.detached {
            return Err(VmError::NotOwner { id: vm.id.to_string() });
        }
        machine.supervisor = Some(assets.adopt(&vm.id, &vm.dirs)?);
        create::keep_images(&machine.record, &vm.dirs);
    }
    let backend = Backend::of(machine.record.backend);
    let architecture = assets.kernel.architecture;
    let (chosen, vmm) = match origin {
        Origin::Kernel => (backend.accelerator(architecture)?, backend.find(architecture)?),
        Origin::Snapshot(source) => source.host(),
    };
    tell_once(&ACCEL_NOTICE, chosen.notice.as_deref());
    let Some(_slot) = BootSlot::wait(&vm.dirs.boot_slots(), cancel)? else {
        return Err(VmError::Cancelled { id: vm.id.to_string() });
    };

    let (Some(assets), Some(supervisor)) = (&machine.assets, &machine.supervisor) else {
        return Err(VmError::NotOwner { id: vm.id.to_string() });
    };
    let boot = Boot {
        vm,
        origin,
        machine,
        assets,
        supervisor,
        accelerator: chosen.accelerator,
        backend,
        vmm,
        timeout,
        deadline: Instant::now() + timeout,
        cancel,
    };
    let (session, variant) = boot.run()?;
    let (accelerator, version) = (boot.accelerator, boot.vmm.version());
    let started = Started { variant, accelerator, vcpu_count: boot.vcpu_count(), version };
    let (record, runtime) = (&mut machine.record, &vm.dirs.runtime);
    let address = network::address_in(record.network.into(), runtime)?;
    if record.address != address || record.started.as_ref() != Some(&started) {
        (record.address, record.started) = (address, Some(started));
        // Others read it there.
        record.write(&vm.dirs)?;
    }
    Ok(session)
}

/// What was said already: the same for every machine of this process.
static ACCEL_NOTICE: AtomicBool = AtomicBool::new(false);
static NETWORK_NOTICE: AtomicBool = AtomicBool::new(false);

pub(crate) fn tell_once(told: &AtomicBool, notice: Option<&str>) {
    if let Some(notice) = notice
        && !told.swap(true, Ordering::Relaxed)
    {
        log::warn!("{notice}");
    }
}

impl Boot<'_> {
    /// Tries one kind of machine after the other, until a guest finds its disk. One of a snapshot
    /// has found it.
    fn run(&self) -> Result<(Session, Variant), VmError> {
        if let Origin::Snapshot(source) = self.origin {
            let variant = source.variant();
            return match self.attempt(variant) {
                Ok(session) => Ok((session, variant)),
                Err(Failed::ForGood(error) | Failed::NoDevices(error)) => Err(error),
            };
        }
        if self.initrd().is_some() {
            self.write_initrd()?;
        }
        let mut last = None;
        for &variant in self.vmm.variants(self.assets.kernel.architecture) {
            match self.attempt(variant) {
                Ok(session) => return Ok((session, variant)),
                Err(Failed::ForGood(error)) => return Err(error),
                Err(Failed::NoDevices(error)) => {
                    log::info!("the VM '{}' found no disk as {variant:?}", self.vm.id);
                    last.get_or_insert(error);
                }
            }
        }
        // Which is of the kind that is tried first; the others are guesses.
        Err(last.unwrap_or_else(|| self.failed("there is no kind of machine for it".to_owned())))
    }
}
