//! Firecracker: finding it, and having it run a machine. It is told over its API what the machine
//! has; it runs guests by KVM alone, boots uncompressed kernels, and knows raw disks.

mod api;
#[cfg(test)]
mod api_tests;
mod client;
mod error;

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use api::{
    ActionType, BootSource, CacheType, Drive, EntropyDevice, InstanceActionInfo, InstanceInfo,
    MachineConfiguration, NetworkInterface, Vsock,
};
use client::{ApiError, Client};
pub use error::FirecrackerError;

use super::machine::{Disk, FileRef, MachineSpec, Nic};
use super::qemu::in_path;
use super::version::Version;
use crate::disk::Format;
use crate::places::VmDirs;

/// A Firecracker of this host that is new enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Firecracker {
    pub(crate) program: PathBuf,
    pub(crate) version: Version,
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
        Ok(Self { program, version })
    }

    /// The command line that starts it. The guest's console is its standard output; what it has to
    /// say of itself goes to standard error.
    pub(crate) fn command_line(&self, dirs: &VmDirs) -> Vec<OsString> {
        let mut line = vec![self.program.clone().into_os_string()];
        line.extend(["--id", "smolvm", "--api-sock"].map(OsString::from));
        line.push(dirs.api_socket().into_os_string());
        line.extend(["--level", "Warn", "--log-path", "/proc/self/fd/2"].map(OsString::from));
        line
    }
}

/// Has a Firecracker that was just started make the machine and switch it on, before `deadline`.
/// `has_ended` is asked while it is waited for.
pub(crate) fn start(
    dirs: &VmDirs,
    machine: &MachineSpec,
    deadline: Instant,
    has_ended: impl Fn() -> bool,
) -> Result<(), FirecrackerError> {
    let failed = |reason: String| FirecrackerError::Api { reason };
    let socket = dirs.api_socket();
    let mut client = loop {
        match Client::connect(&socket, deadline) {
            Ok(client) => break client,
            Err(_) if has_ended() => return Err(failed("it ended before it listened".to_owned())),
            Err(error) if Instant::now() >= deadline => {
                return Err(failed(format!("{}: {error}", socket.display())));
            }
            Err(_) => thread::sleep(PAUSE),
        }
    };
    configure(&mut client, dirs, machine).map_err(|error| failed(error.to_string()))
}

fn configure(client: &mut Client, dirs: &VmDirs, machine: &MachineSpec) -> Result<(), ApiError> {
    client.give(&MachineConfiguration {
        vcpu_count: machine.vcpu_count,
        mem_size_mib: machine.mem_size_mib,
    })?;
    client.give(&BootSource {
        kernel_image_path: path_of(&machine.kernel),
        initrd_path: machine.initrd.as_ref().map(path_of),
        boot_args: machine.command_line.clone(),
    })?;
    for (number, disk) in machine.disks.iter().enumerate() {
        client.give(&drive(number, disk))?;
    }
    if let Some(Nic::NamedTap { name, mac }) = &machine.network {
        client.give(&NetworkInterface {
            iface_id: "net0".to_owned(),
            host_dev_name: name.clone(),
            guest_mac: Some(mac.clone()),
        })?;
    }
    client.give(&Vsock { guest_cid: GUEST_CID, uds_path: dirs.vsock_socket() })?;
    client.give(&EntropyDevice {})?;
    client.give(&InstanceActionInfo { action_type: ActionType::InstanceStart })
}

fn drive(number: usize, disk: &Disk) -> Drive {
    debug_assert_eq!(disk.format, Format::Raw);
    Drive {
        drive_id: format!("disk{number}"),
        // The agent mounts the root; the kernel is told nothing.
        is_root_device: false,
        is_read_only: disk.read_only,
        path_on_host: path_of(&disk.file),
        // As QEMU does it: a guest that has synced has synced.
        cache_type: CacheType::Writeback,
    }
}

fn path_of(file: &FileRef) -> PathBuf {
    match file {
        FileRef::Path(path) => path.clone(),
        FileRef::Inherited(number) => format!("/proc/self/fd/{number}").into(),
    }
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
