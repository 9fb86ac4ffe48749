//! Booting: from a machine's record to an agent that answers.

use std::os::fd::RawFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use smolvm_image::CancelToken;

use crate::accel::Accelerator;
use crate::assets::{Assets, KERNEL_FD, ROOTFS_FD};
use crate::backend::{
    self, Backend, Disk, FileRef, FirecrackerError, MachineSpec, Nic, Variant, Vmm,
};
use crate::boot_slot::BootSlot;
use crate::console;
use crate::create;
use crate::disk::BaseUse;
use crate::endowment::{DISK_FD, Endowment, INITRD_FD, NETWORK_FD, QMP_FD};
use crate::error::VmError;
use crate::initrd::{Initrd, modules};
use crate::network::{self, Device, GuestNetwork, NetworkPlan, Uplink};
use crate::record::DiskRecord;
use crate::session::{Session, SessionError};
use crate::supervisor::{Program, Supervisor};
use crate::vm::{Machine, SmolVm};

/// One start of a machine.
struct Boot<'a> {
    vm: &'a SmolVm,
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

/// Why an attempt came to nothing.
enum Failed {
    /// The guest found no disk: it may find one on another kind of machine.
    NoDevices(VmError),
    ForGood(VmError),
}

/// What an agent that starts from the disk is told of it.
pub(crate) const ON_DISK: &str = "root=/dev/vda\ninit=auto\nentered=1\ngrow=1\n";

/// How long the end of a VMM may take to be heard of, after its agent's channel has ended.
const END: Duration = Duration::from_secs(2);

/// Boots a machine, and returns once its agent answers.
pub(crate) fn boot(
    vm: &SmolVm,
    machine: &mut Machine,
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
    let chosen = backend.accelerator(assets.kernel.architecture)?;
    tell_once(&ACCEL_NOTICE, chosen.notice.as_deref());
    let vmm = backend.find(assets.kernel.architecture)?;
    let Some(_slot) = BootSlot::wait(&vm.dirs.boot_slots(), cancel)? else {
        return Err(VmError::Cancelled { id: vm.id.to_string() });
    };

    let (Some(assets), Some(supervisor)) = (&machine.assets, &machine.supervisor) else {
        return Err(VmError::NotOwner { id: vm.id.to_string() });
    };
    let boot = Boot {
        vm,
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
    let session = boot.run()?;
    let (record, runtime) = (&mut machine.record, &vm.dirs.runtime);
    let address = network::address_in(record.network.into(), runtime)?;
    if record.address != address {
        record.address = address;
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

/// The guest's network device, as the VMM is told of it.
fn nic(device: &Device) -> Nic {
    let mac = device.mac.to_owned();
    match &device.uplink {
        Uplink::Filter { .. } => Nic::Stream { number: NETWORK_FD, mac },
        Uplink::Restricted => Nic::Restricted { mac },
        Uplink::Tap { .. } => Nic::Tap { number: NETWORK_FD, mac },
    }
}

/// The guest's network, as its agent is told of it.
fn for_agent(guest: &GuestNetwork, host_name: &str) -> smolvm_protocol::Network {
    smolvm_protocol::Network {
        address: guest.address,
        prefix: guest.prefix,
        gateway: Some(guest.gateway),
        name_servers: guest.dns.clone(),
        mtu: guest.mtu,
        host_name: host_name.to_owned(),
    }
}

impl Boot<'_> {
    /// Tries one kind of machine after the other, until a guest finds its disk.
    fn run(&self) -> Result<Session, VmError> {
        if self.initrd().is_some() {
            self.write_initrd()?;
        }
        let mut last = None;
        for &variant in self.vmm.variants(self.assets.kernel.architecture) {
            match self.attempt(variant) {
                Ok(session) => return Ok(session),
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

    /// Writes what the machine starts with: the agent, what it is told, and the drivers that the
    /// image's own initrd may lack.
    fn write_initrd(&self) -> Result<(), VmError> {
        let rootfs = &self.assets.rootfs;
        let release = self.assets.kernel.release.as_deref();
        let modules = release.and_then(|release| {
            modules::from_rootfs(rootfs, release, modules::WANTED)
                .inspect_err(|reason| log::debug!("{}: {reason}", self.vm.id))
                .ok()
        });
        let record = &self.machine.record;
        let own = self.assets.initrd.as_deref().zip(record.initrd.as_deref());
        Initrd::new(smolvm_agent::PROGRAM)
            .boot_file(self.boot_file())
            .modules(modules)
            .image_initrd(own)
            .write(&self.vm.dirs.initrd())?;
        Ok(())
    }

    /// The initrd, where the kernel unpacks one.
    fn initrd(&self) -> Option<FileRef> {
        let from_disk = self.assets.kernel.starts_from_disk();
        (!from_disk).then(|| self.own_file(INITRD_FD, self.vm.dirs.initrd()))
    }

    /// A file of the machine's own: QEMU is given it open, Firecracker opens it.
    fn own_file(&self, number: RawFd, path: PathBuf) -> FileRef {
        match self.backend {
            Backend::Qemu => FileRef::Inherited(number),
            Backend::Firecracker => FileRef::Path(path),
        }
    }

    /// What QEMU is started with.
    fn endowment<'a>(&'a self, network: &'a NetworkPlan) -> Endowment<'a> {
        Endowment {
            record: &self.machine.record,
            dirs: &self.vm.dirs,
            has_initrd: self.initrd().is_some(),
            accelerator: self.accelerator,
            vcpu_count: self.vcpu_count(),
            device: network.device.as_ref(),
        }
    }

    /// What the agent is told of the disks.
    fn boot_file(&self) -> String {
        let mut text = String::from("root=/dev/vda\ninit=auto\ngrow=1\n");
        if self.base_use() == BaseUse::ReadOnlyDisk {
            text.push_str("scratch=/dev/vdb\n");
        }
        text
    }

    fn base_use(&self) -> BaseUse {
        match &self.machine.record.disk {
            DiskRecord::Isolated(disk) => disk.base_use(),
            DiskRecord::Shared => BaseUse::Unused,
        }
    }

    fn disks(&self) -> Vec<Disk> {
        let record = &self.machine.record;
        let DiskRecord::Isolated(isolated) = &record.disk else {
            return vec![Disk::raw(self.own_file(DISK_FD, record.rootfs.clone()))];
        };
        let own = self.own_file(DISK_FD, isolated.path(&self.vm.dirs.state));
        let base = FileRef::Inherited(ROOTFS_FD);
        match isolated.base_use() {
            BaseUse::Unused => vec![Disk::raw(own)],
            BaseUse::Backing => vec![Disk::over(own, base)],
            BaseUse::ReadOnlyDisk => vec![Disk::read_only(base), Disk::raw(own)],
        }
    }

    /// One start of a VMM, up to the agent's answer.
    fn attempt(&self, variant: Variant) -> Result<Session, Failed> {
        let record = &self.machine.record;
        let network = network::plan(record.network.into(), &record.egress.0, &self.vm.dirs.runtime)
            .map_err(|error| Failed::ForGood(error.into()))?;
        tell_once(&NETWORK_NOTICE, network.notice.as_deref());
        let mut programs = Vec::new();
        if let Some(helper) = &network.helper {
            programs.push(Program::helper(helper.argv.clone(), helper.wait_for_socket.clone()));
        }
        let spec = self.spec(variant, &network);
        let program = self.vmm.program(&spec, &self.vm.dirs);
        let settings = match self.backend {
            Backend::Qemu => self.endowment(&network).settings(),
            // It opens what it is told of by itself.
            Backend::Firecracker => Vec::new(),
        };
        programs.push(settings.into_iter().fold(program, Program::with));
        let launched = self.supervisor.launch(&programs);
        launched.map_err(|source| {
            Failed::ForGood(VmError::Supervisor { id: self.vm.id.to_string(), source })
        })?;

        let gives_up =
            || self.cancel.is_cancelled() || self.supervisor.wait_ended(Duration::ZERO).is_some();
        let switched_on = self.vmm.switch_on(&spec, &self.vm.dirs, self.deadline, gives_up);
        if let Err(error) = switched_on {
            return Err(Failed::ForGood(self.refused(error)));
        }
        let socket = self.vm.dirs.agent_socket();
        match Session::connect_unless(&socket, self.deadline, self.cancel) {
            Ok(session) => {
                self.set_up(&session.cancelled_by(self.cancel), &network)
                    .map_err(Failed::ForGood)?;
                Ok(session)
            }
            Err(error) => Err(self.why(error)),
        }
    }

    fn vcpu_count(&self) -> u32 {
        self.machine.record.vcpu_count.unwrap_or(match self.accelerator {
            Accelerator::Kvm => 2,
            Accelerator::Tcg => 1,
        })
    }

    fn spec(&self, variant: Variant, network: &NetworkPlan) -> MachineSpec {
        let record = &self.machine.record;
        let architecture = self.assets.kernel.architecture;
        MachineSpec {
            variant,
            accelerator: self.accelerator,
            vcpu_count: self.vcpu_count(),
            mem_size_mib: record.mem_size_mib,
            kernel: FileRef::Inherited(KERNEL_FD),
            initrd: self.initrd(),
            command_line: backend::kernel_arguments(
                self.backend,
                architecture,
                self.accelerator,
                self.assets.kernel.starts_from_disk(),
                record.boot_args.as_deref(),
            ),
            disks: self.disks(),
            network: network.device.as_ref().map(nic),
            nested_virtualization: record.nested_virtualization,
            vsock_cid: None,
            qmp_socket: QMP_FD,
        }
    }

    /// Tells the guest the time and its address.
    fn set_up(&self, session: &Session, network: &NetworkPlan) -> Result<(), VmError> {
        session.set_time().map_err(|source| self.vm.session_error(source))?;
        if let Some(device) = &network.device {
            let network = for_agent(&device.guest.get()?, self.vm.id.as_str());
            session.set_network(&network).map_err(|source| self.vm.session_error(source))?;
        }
        Ok(())
    }

    /// Ends what did not come up, and says why it did not.
    fn why(&self, error: SessionError) -> Failed {
        let ended = match error {
            SessionError::NotReady { .. } | SessionError::Cancelled => false,
            _ => self.supervisor.wait_ended(END).is_some(),
        };
        let cancelled = matches!(error, SessionError::Cancelled);
        let vmm = if ended || cancelled { None } else { self.backend.status(&self.vm.dirs) };
        // Where it has not ended by itself, nobody needs it any more.
        let _ = self.supervisor.kill();
        let console = console::tail(&self.vm.dirs.console());
        let id = self.vm.id.to_string();
        if !ended {
            return Failed::ForGood(match error {
                SessionError::NotReady { .. } => {
                    VmError::BootTimeout { id, after: self.timeout, vmm, console }
                }
                SessionError::Cancelled => VmError::Cancelled { id },
                source => VmError::Session { id, source },
            });
        }
        match console::reason(&console) {
            Some(reason) if console::finds_no_devices(&reason) => {
                Failed::NoDevices(self.failed(reason))
            }
            Some(reason) => Failed::ForGood(self.failed(reason)),
            None => Failed::ForGood(self.failed(self.last_words())),
        }
    }

    /// Ends a VMM that did not make the machine, and says why it did not.
    fn refused(&self, error: FirecrackerError) -> VmError {
        let ended = self.supervisor.wait_ended(Duration::from_millis(100)).is_some();
        let _ = self.supervisor.kill();
        if self.cancel.is_cancelled() {
            return VmError::Cancelled { id: self.vm.id.to_string() };
        }
        if ended { self.failed(self.last_words()) } else { error.into() }
    }

    /// What the VMM said last; it may have refused to start at all.
    fn last_words(&self) -> String {
        let said = console::tail(&self.vm.dirs.vmm_log());
        match said.lines().last() {
            Some(line) => format!("{} said: {line}", self.backend.name()),
            None => "it reset or switched itself off".to_owned(),
        }
    }

    fn failed(&self, reason: String) -> VmError {
        let console = console::tail(&self.vm.dirs.console());
        VmError::BootFailed { id: self.vm.id.to_string(), reason, console }
    }
}
