//! Firecracker: finding it, and having it run a machine. It is told over its API what the machine
//! has; it runs guests by KVM alone, boots uncompressed kernels, and knows raw disks.

mod api;
#[cfg(test)]
mod api_tests;
mod client;
mod error;
mod jail;
mod jailer;
pub(crate) mod snapshot;

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use api::{
    ActionType, BootSource, CacheType, Drive, EntropyDevice, InstanceActionInfo, InstanceInfo,
    MachineConfiguration, NetworkInterface, Running, Vm, Vsock,
};
use client::{ApiError, Client};
pub use error::FirecrackerError;
pub(crate) use jailer::Jailer;

use super::machine::{Disk, MachineSpec, Nic};
use super::qemu::in_path;
use super::version::Version;
use crate::disk::Format;
use crate::places::VmDirs;

/// A Firecracker of this host that is new enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Firecracker {
    pub(crate) program: PathBuf,
    pub(crate) version: Version,
    /// What puts it into a jail, as root.
    pub(crate) jailer: Option<Jailer>,
}

/// The environment variable that names the program.
const PROGRAM: &str = "SMOLVM_FIRECRACKER";

/// The first version that is known to boot what is booted here: it tells kernels of its devices by
/// ACPI too.
const OLDEST: Version = Version(1, 7);

/// The address of the guest on its vsock, which nobody else sees.
const GUEST_CID: u32 = 3;

/// How often it is looked whether the API listens.
const PAUSE: Duration = Duration::from_millis(2);

impl Firecracker {
    /// The Firecracker that `$SMOLVM_FIRECRACKER` names, else the one in `PATH`.
    pub(crate) fn find() -> Result<Self, FirecrackerError> {
        let chosen = env::var_os(PROGRAM).filter(|program| !program.is_empty());
        let wanted = chosen.unwrap_or_else(|| OsString::from("firecracker"));
        let program = in_path(Path::new(&wanted)).ok_or_else(|| FirecrackerError::Missing {
            program: wanted.to_string_lossy().into_owned(),
        })?;
        let version = Version::of(&program, "Firecracker v")
            .map_err(|reason| FirecrackerError::Broken { program: program.clone(), reason })?;
        if version < OLDEST {
            return Err(FirecrackerError::TooOld { program, found: (version.0, version.1) });
        }
        let jailer = Jailer::find(&program, version)?;
        Ok(Self { program, version, jailer })
    }

    /// Has a Firecracker that was just started make the machine and switch it on, before `deadline`.
    /// `has_ended` is asked while it is waited for.
    pub(crate) fn switch_on(
        &self,
        dirs: &VmDirs,
        machine: &MachineSpec,
        deadline: Instant,
        has_ended: impl Fn() -> bool,
    ) -> Result<(), FirecrackerError> {
        let refused = |error: ApiError| FirecrackerError::Api { reason: error.to_string() };
        let mut client = connect(dirs, deadline, has_ended)?;
        self.configure(&mut client, dirs, machine).map_err(refused)?;
        self.seal(dirs)?;
        let start = InstanceActionInfo { action_type: ActionType::InstanceStart };
        client.give(&start).map_err(refused)
    }

    fn configure(
        &self,
        client: &mut Client,
        dirs: &VmDirs,
        machine: &MachineSpec,
    ) -> Result<(), ApiError> {
        client.give(&MachineConfiguration {
            vcpu_count: machine.vcpu_count,
            mem_size_mib: machine.mem_size_mib,
        })?;
        client.give(&BootSource {
            kernel_image_path: self.path_of(machine.kernel),
            initrd_path: machine.initrd.map(|initrd| self.path_of(initrd)),
            boot_args: machine.command_line.clone(),
        })?;
        for (number, disk) in machine.disks.iter().enumerate() {
            client.give(&self.drive(number, disk))?;
        }
        if let Some(Nic::NamedTap { name, mac }) = &machine.network {
            client.give(&NetworkInterface {
                iface_id: "net0".to_owned(),
                host_dev_name: name.clone(),
                guest_mac: Some(mac.clone()),
            })?;
        }
        let uds_path = self.socket(&dirs.vsock_socket());
        client.give(&Vsock { guest_cid: GUEST_CID, uds_path })?;
        client.give(&EntropyDevice {})
    }

    fn drive(&self, number: usize, disk: &Disk) -> Drive {
        debug_assert_eq!(disk.format, Format::Raw);
        Drive {
            drive_id: format!("disk{number}"),
            // The agent mounts the root; the kernel is told nothing.
            is_root_device: false,
            is_read_only: disk.read_only,
            path_on_host: self.path_of(disk.file),
            // As QEMU does it: a guest that has synced has synced.
            cache_type: CacheType::Writeback,
        }
    }
}

/// Connects to a Firecracker that was just started. `has_ended` is asked while it is waited for.
fn connect(
    dirs: &VmDirs,
    deadline: Instant,
    has_ended: impl Fn() -> bool,
) -> Result<Client, FirecrackerError> {
    let failed = |reason: String| FirecrackerError::Api { reason };
    let socket = dirs.api_socket();
    loop {
        match Client::connect(&socket, deadline) {
            Ok(client) => return Ok(client),
            Err(_) if has_ended() => {
                return Err(failed("it ended before it listened".to_owned()));
            }
            Err(error) if Instant::now() >= deadline => {
                return Err(failed(format!("{}: {error}", socket.display())));
            }
            Err(_) => thread::sleep(PAUSE),
        }
    }
}

/// Stops the guest's processors.
pub(crate) fn pause(dirs: &VmDirs, deadline: Instant) -> Result<(), String> {
    set(dirs, Running::Paused, deadline)
}

/// Has the guest's processors go on.
pub(crate) fn resume(dirs: &VmDirs, deadline: Instant) -> Result<(), String> {
    set(dirs, Running::Resumed, deadline)
}

fn set(dirs: &VmDirs, state: Running, deadline: Instant) -> Result<(), String> {
    let mut client =
        Client::connect(&dirs.api_socket(), deadline).map_err(|error| error.to_string())?;
    client.give(&Vm { state }).map_err(|error| error.to_string())
}

/// Presses Ctrl-Alt-Del, at which many guests end in order; whether that was taken.
pub(crate) fn press_keys(dirs: &VmDirs, deadline: Instant) -> bool {
    let keys = InstanceActionInfo { action_type: ActionType::SendCtrlAltDel };
    Client::connect(&dirs.api_socket(), deadline).is_ok_and(|mut client| client.give(&keys).is_ok())
}

/// How Firecracker says that the machine does, such as `Running`.
pub(crate) fn status(dirs: &VmDirs, deadline: Instant) -> Option<String> {
    let mut client = Client::connect(&dirs.api_socket(), deadline).ok()?;
    client.get::<InstanceInfo>("/").ok().map(|info| info.state)
}
