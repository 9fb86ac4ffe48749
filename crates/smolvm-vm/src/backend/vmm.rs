//! [`Backend`]: which VMM runs a machine, and [`Vmm`]: the program itself, with what is said to
//! each of them in its own way.

use std::path::Path;
use std::time::{Duration, Instant};

use super::qemu::arguments;
use super::qmp::{Qmp, QmpError};
use super::{Firecracker, FirecrackerError, MachineSpec, Qemu, Variant, Version, firecracker};
use crate::accel::{self, Accel, AccelError, Accelerator, Chosen};
use crate::config::{BackendChoice, VmConfig};
use crate::disk::Isolation;
use crate::endowment::Endowment;
use crate::error::VmError;
use crate::kernel::Architecture;
use crate::network::{self, Attachment};
use crate::places::VmDirs;
use crate::supervisor::Program;

/// Which VMM runs a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    Qemu,
    Firecracker,
}

/// A VMM of this host, ready to be started.
#[derive(Debug, Clone)]
pub(crate) enum Vmm {
    Qemu(Qemu),
    Firecracker(Firecracker),
}

/// How long a VMM may take to tell its status.
const STATUS: Duration = Duration::from_millis(500);

impl Backend {
    /// Chooses the VMM for a machine that is made.
    pub(crate) fn choose(config: &VmConfig) -> Result<Self, VmError> {
        match config.backend {
            BackendChoice::Qemu => Ok(Self::Qemu),
            BackendChoice::Firecracker => {
                on_firecracker(config)?;
                Firecracker::find()?;
                match network::obstacle_on_tap(config.network.into()) {
                    None => Ok(Self::Firecracker),
                    Some(obstacle) => Err(obstacle.into()),
                }
            }
            BackendChoice::Auto => Ok(Self::best(config)),
        }
    }

    /// Firecracker where all is there that it needs.
    fn best(config: &VmConfig) -> Self {
        let host = Architecture::of_host().unwrap_or(Architecture::X86_64);
        let has_kvm = || {
            let chosen = accel::choose(Accel::Auto, host);
            chosen.is_ok_and(|chosen| chosen.accelerator == Accelerator::Kvm)
        };
        let is_firecracker = on_firecracker(config).is_ok()
            && config.isolation != Some(Isolation::Overlay)
            && Firecracker::find().is_ok()
            && has_kvm()
            && network::obstacle_on_tap(config.network.into()).is_none();
        if is_firecracker { Self::Firecracker } else { Self::Qemu }
    }

    /// That of a machine that was made, of which the choice was written down.
    pub(crate) fn of(choice: BackendChoice) -> Self {
        match choice {
            BackendChoice::Firecracker => Self::Firecracker,
            BackendChoice::Auto | BackendChoice::Qemu => Self::Qemu,
        }
    }

    /// What runs its guests on this host.
    pub(crate) fn accelerator(self, guest: Architecture) -> Result<Chosen, VmError> {
        if self == Self::Qemu {
            return Ok(accel::choose(Accel::Auto, guest)?);
        }
        let no_kvm = |why: String| FirecrackerError::NoKvm { why }.into();
        match accel::choose(Accel::Kvm, guest) {
            Ok(chosen) if chosen.accelerator == Accelerator::Kvm => Ok(chosen),
            Ok(_) => Err(no_kvm("SMOLVM_ACCEL chooses emulation. Unset it".to_owned())),
            Err(error @ AccelError::KvmUnusable { .. }) => Err(no_kvm(error.to_string())),
            Err(error) => Err(error.into()),
        }
    }

    /// The program, if it is there and new enough.
    pub(crate) fn find(self, guest: Architecture) -> Result<Vmm, VmError> {
        Ok(match self {
            Self::Qemu => Vmm::Qemu(Qemu::find(guest)?),
            Self::Firecracker => Vmm::Firecracker(Firecracker::find()?),
        })
    }

    /// What it can connect a guest's network device to.
    pub(crate) fn attachment(self) -> Attachment {
        match self {
            Self::Qemu => Attachment::Any,
            Self::Firecracker => Attachment::Tap,
        }
    }

    /// What people call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Qemu => "QEMU",
            Self::Firecracker => "Firecracker",
        }
    }

    /// What a VMM that runs says of its guest.
    pub(crate) fn status(self, dirs: &VmDirs) -> Option<String> {
        match self {
            Self::Qemu => {
                let mut qmp = Qmp::connect(&dirs.qmp_socket(), STATUS).ok()?;
                qmp.status().ok().map(|status| status.status)
            }
            Self::Firecracker => firecracker::status(dirs, Instant::now() + STATUS),
        }
    }

    /// Stops the guest's processors; returns when they have stopped.
    pub(crate) fn pause(self, dirs: &VmDirs, deadline: Instant) -> Result<(), String> {
        match self {
            Self::Qemu => tell(&dirs.qmp_socket(), deadline, Qmp::stop),
            Self::Firecracker => firecracker::pause(dirs, deadline),
        }
    }

    /// Has the guest's processors go on.
    pub(crate) fn resume(self, dirs: &VmDirs, deadline: Instant) -> Result<(), String> {
        match self {
            Self::Qemu => tell(&dirs.qmp_socket(), deadline, Qmp::cont),
            Self::Firecracker => firecracker::resume(dirs, deadline),
        }
    }

    /// Asks the guest to end in order, by hardware; whether the VMM took that.
    pub(crate) fn press_button(self, dirs: &VmDirs, deadline: Instant) -> bool {
        match self {
            Self::Qemu => tell(&dirs.qmp_socket(), deadline, Qmp::system_powerdown).is_ok(),
            Self::Firecracker => firecracker::press_keys(dirs, deadline),
        }
    }

    /// Tells a VMM to end without asking the guest; whether it took that. Firecracker can only be
    /// killed.
    pub(crate) fn quit(self, dirs: &VmDirs, deadline: Instant) -> bool {
        match self {
            Self::Qemu => tell(&dirs.qmp_socket(), deadline, Qmp::quit).is_ok(),
            Self::Firecracker => false,
        }
    }
}

impl From<Backend> for BackendChoice {
    fn from(backend: Backend) -> Self {
        match backend {
            Backend::Qemu => Self::Qemu,
            Backend::Firecracker => Self::Firecracker,
        }
    }
}

impl Vmm {
    /// The version of the program.
    pub(crate) fn version(&self) -> Version {
        match self {
            Self::Qemu(qemu) => qemu.version,
            Self::Firecracker(firecracker) => firecracker.version,
        }
    }

    /// The kinds of machine to try for a kernel.
    pub(crate) fn variants(&self, guest: Architecture) -> &'static [Variant] {
        match self {
            Self::Qemu(_) => Variant::all_for(guest),
            // It has one kind, which is much like that.
            Self::Firecracker(_) => &[Variant::Microvm],
        }
    }

    /// What the supervisor is to start, with what it is given.
    pub(crate) fn program(
        &self,
        machine: &MachineSpec,
        endowment: &Endowment<'_>,
    ) -> Result<Program, FirecrackerError> {
        match self {
            Self::Qemu(qemu) => {
                let mut line = vec![qemu.program.clone().into_os_string()];
                line.extend(arguments(machine));
                Ok(endowment.for_qemu().into_iter().fold(Program::vmm(line), Program::with))
            }
            Self::Firecracker(firecracker) => firecracker.program(endowment),
        }
    }

    /// Has the VMM that was just started switch the machine on; QEMU does so by itself.
    /// `has_ended` is asked while it is waited for.
    pub(crate) fn switch_on(
        &self,
        machine: &MachineSpec,
        dirs: &VmDirs,
        deadline: Instant,
        has_ended: impl Fn() -> bool,
    ) -> Result<(), FirecrackerError> {
        match self {
            Self::Qemu(_) => Ok(()),
            Self::Firecracker(firecracker) => {
                firecracker.switch_on(dirs, machine, deadline, has_ended)
            }
        }
    }
}

/// Refuses what Firecracker does not have.
fn on_firecracker(config: &VmConfig) -> Result<(), FirecrackerError> {
    if config.nested_virtualization {
        let remedy = "Leave that out";
        return Err(FirecrackerError::Unsupported { what: "nested virtualization", remedy });
    }
    Ok(())
}

/// Tells QEMU one thing.
fn tell(
    socket: &Path,
    deadline: Instant,
    tell: impl FnOnce(&mut Qmp) -> Result<(), QmpError>,
) -> Result<(), String> {
    let left = deadline.saturating_duration_since(Instant::now());
    let told = Qmp::connect(socket, left).and_then(|mut qmp| tell(&mut qmp));
    told.map_err(|error| error.to_string())
}
