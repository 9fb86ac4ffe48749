//! What Firecracker is told and asked over its API: each value is the body of one request
//! (`firecracker.yaml` in its sources, under the same names).

#![cfg_attr(not(test), expect(dead_code, reason = "snapshots and metrics are to come"))]
#![allow(clippy::struct_field_names, reason = "the names are those of the API")]

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A value that Firecracker takes.
pub(super) trait Resource: Serialize {
    /// How it is given.
    const METHOD: Method = Method::Put;

    /// Where it is given to.
    fn path(&self) -> String;
}

/// What is done with a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Put,
    Patch,
}

impl Method {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
        }
    }
}

/// The size of the machine.
#[derive(Debug, Serialize)]
pub(super) struct MachineConfiguration {
    pub(super) vcpu_count: u32,
    pub(super) mem_size_mib: u32,
}

/// What it boots. All paths are those that Firecracker sees.
#[derive(Debug, Serialize)]
pub(super) struct BootSource {
    pub(super) kernel_image_path: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) initrd_path: Option<PathBuf>,
    pub(super) boot_args: String,
}

/// A disk. The guest sees them in the order in which they are given.
#[derive(Debug, Serialize)]
pub(super) struct Drive {
    pub(super) drive_id: String,
    /// Whether the kernel is to be told that this is its root.
    pub(super) is_root_device: bool,
    pub(super) is_read_only: bool,
    pub(super) path_on_host: PathBuf,
    pub(super) cache_type: CacheType,
}

/// What becomes of a guest's wish that its writes be on the disk.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) enum CacheType {
    /// It is passed over.
    Unsafe,
    /// It is fulfilled.
    Writeback,
}

/// A network device, on a tap device of the host's.
#[derive(Debug, Serialize)]
pub(super) struct NetworkInterface {
    pub(super) iface_id: String,
    pub(super) host_dev_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) guest_mac: Option<String>,
}

/// The way to the guest's agent: what connects to the socket says a port (`CONNECT 1024`).
#[derive(Debug, Serialize)]
pub(super) struct Vsock {
    pub(super) guest_cid: u32,
    pub(super) uds_path: PathBuf,
}

/// A source of random numbers.
#[derive(Debug, Default, Serialize)]
pub(super) struct EntropyDevice {}

/// Where Firecracker writes what it has to say of itself.
#[derive(Debug, Serialize)]
pub(super) struct Logger {
    pub(super) log_path: PathBuf,
    pub(super) level: LogLevel,
}

/// From what weight on.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) enum LogLevel {
    Warning,
    Debug,
}

/// Where Firecracker writes what it has counted.
#[derive(Debug, Serialize)]
pub(super) struct Metrics {
    pub(super) metrics_path: PathBuf,
}

/// Something to do now.
#[derive(Debug, Serialize)]
pub(super) struct InstanceActionInfo {
    pub(super) action_type: ActionType,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) enum ActionType {
    FlushMetrics,
    /// Switch the machine on.
    InstanceStart,
    /// Press these keys, at which Linux ends in order.
    SendCtrlAltDel,
}

/// Whether the guest's processors run.
#[derive(Debug, Serialize)]
pub(super) struct Vm {
    pub(super) state: Running,
}

/// See [`Vm`].
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) enum Running {
    Paused,
    Resumed,
}

/// A snapshot to be written of a machine that is paused.
#[derive(Debug, Serialize)]
pub(super) struct SnapshotCreateParams {
    pub(super) snapshot_path: PathBuf,
    pub(super) mem_file_path: PathBuf,
    pub(super) snapshot_type: SnapshotType,
}

/// How much of the memory a snapshot holds.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) enum SnapshotType {
    /// All of it.
    Full,
}

/// A snapshot to go on from, before the machine is given anything else.
#[derive(Debug, Serialize)]
pub(super) struct SnapshotLoadParams {
    pub(super) snapshot_path: PathBuf,
    pub(super) mem_backend: MemoryBackend,
    pub(super) resume_vm: bool,
}

/// What the memory of a snapshot is read from.
#[derive(Debug, Serialize)]
pub(super) struct MemoryBackend {
    pub(super) backend_type: BackendType,
    pub(super) backend_path: PathBuf,
}

/// See [`MemoryBackend`].
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) enum BackendType {
    File,
}

/// What Firecracker says of itself and the machine.
#[derive(Debug, Deserialize)]
pub(super) struct InstanceInfo {
    /// `Not started`, `Running` or `Paused`.
    pub(super) state: String,
}

/// Why Firecracker has refused something.
#[derive(Debug, Deserialize)]
pub(super) struct Fault {
    #[serde(rename = "fault_message")]
    pub(super) message: String,
}

macro_rules! resources {
    ($($method:ident $path:literal $resource:ty;)*) => {
        $(impl Resource for $resource {
            const METHOD: Method = Method::$method;

            fn path(&self) -> String {
                $path.to_owned()
            }
        })*
    };
}

resources! {
    Put "/machine-config" MachineConfiguration;
    Put "/boot-source" BootSource;
    Put "/vsock" Vsock;
    Put "/entropy" EntropyDevice;
    Put "/logger" Logger;
    Put "/metrics" Metrics;
    Put "/actions" InstanceActionInfo;
    Patch "/vm" Vm;
    Put "/snapshot/create" SnapshotCreateParams;
    Put "/snapshot/load" SnapshotLoadParams;
}

impl Resource for Drive {
    fn path(&self) -> String {
        format!("/drives/{}", self.drive_id)
    }
}

impl Resource for NetworkInterface {
    fn path(&self) -> String {
        format!("/network-interfaces/{}", self.iface_id)
    }
}
