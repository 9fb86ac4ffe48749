//! Boot cached images in microVMs and run commands in them.
//!
//! ```no_run
//! use smolvm_vm::{Vm, VmConfig};
//!
//! let vm = Vm::boot(VmConfig::new("vmlinux.bin", "rootfs.ext4"))?;
//! println!("VM started with IP: {}", vm.get_ip()?);
//! let result = vm.run("echo 'Hello from SmolVM!'")?;
//! println!("Output: {}", result.stdout().trim());
//! # Ok::<(), smolvm_vm::VmError>(())
//! ```
//!
//! A [`VmConfig`] says what a machine is to be; a [`Vm`] is one that was started, a [`SmolVm`] one
//! that is started and stopped by hand; [`Vms`] are all machines of a user. The root file system
//! needs nothing: an agent comes with the machine. It is never written to.
//!
//! Everything blocks and may be called from many threads.

mod accel;
mod assets;
mod backend;
mod boot;
mod boot_slot;
mod cancellable;
mod cgroup;
mod config;
mod console;
mod create;
mod disk;
mod endowment;
mod error;
mod host;
mod id;
mod initrd;
mod kernel;
mod network;
mod pause;
mod places;
mod privileges;
mod prune;
mod record;
mod session;
mod snapshot;
mod state;
mod stop;
mod supervisor;
mod vm;
mod vms;

pub use accel::AccelError;
pub use backend::{FirecrackerError, QemuError};
pub use cancellable::Cancellable;
pub use config::{BackendChoice, DiskMode, NetworkMode, VmConfig};
pub use disk::{DiskError, Isolation};
pub use error::{VmError, VmErrorKind};
pub use host::{HostCheck, HostStatus, check_host};
pub use id::{IdError, VmId};
pub use initrd::InitrdError;
pub use kernel::KernelError;
pub use network::{Destination, DestinationError, Egress, NetworkError};
pub use prune::{PrunedVm, PrunedVms, VmLeaving, VmPruneOptions};
pub use session::*;
pub use snapshot::{RestoreConfig, Snapshot, SnapshotError};
pub use state::{VmInfo, VmState};
pub use supervisor::SupervisorError;
pub use vm::{DEFAULT_BOOT_TIMEOUT, DEFAULT_STOP_TIMEOUT, SmolVm, Vm};
pub use vms::Vms;
