//! [`KvmChecks`]: what this host says of KVM, one result per check.

use std::io;
use std::sync::{Arc, OnceLock};

use kvm_ioctls::Kvm;

use super::cpuinfo::{CpuInfo, Virtualization};
use super::obstacle::KvmObstacle;
use super::probe;

/// The version of the interface since Linux 2.6.22; others are to be refused ("The Definitive KVM
/// API Documentation", `KVM_GET_API_VERSION`).
const API_VERSION: i32 = 12;

/// The checks that KVM has to pass before a guest is entrusted to it, in their order.
#[derive(Clone, Debug)]
pub(crate) struct KvmChecks {
    /// `/dev/kvm` opens for reading and writing.
    pub(crate) device: Result<(), KvmObstacle>,
    /// The processor has what KVM rests on; `None` inside where the architecture shows no flag.
    pub(crate) processor: Result<Option<Virtualization>, KvmObstacle>,
    /// A guest of a few instructions did what it should have. `None` where an earlier check has
    /// failed, so that none was run.
    pub(crate) probe: Option<Result<(), KvmObstacle>>,
}

impl KvmChecks {
    /// Checks this host, once per process. Takes some milliseconds, or seconds where KVM hangs.
    pub(crate) fn of_this_host() -> &'static Self {
        static CHECKS: OnceLock<KvmChecks> = OnceLock::new();
        CHECKS.get_or_init(Self::run)
    }

    /// The first check that failed; `None` where KVM can be used.
    pub(crate) fn obstacle(&self) -> Option<&KvmObstacle> {
        let probe = self.probe.as_ref().and_then(|probe| probe.as_ref().err());
        self.device.as_ref().err().or(self.processor.as_ref().err()).or(probe)
    }

    fn run() -> Self {
        let device = open();
        let processor = processor();
        let probe = match (&device, &processor) {
            (Ok(_), Ok(_)) => {
                Some(probe::run().map_err(|failure| KvmObstacle::ProbeFailed { failure }))
            }
            _ => None,
        };
        Self { device: device.map(drop), processor, probe }
    }
}

fn open() -> Result<Kvm, KvmObstacle> {
    let kvm = Kvm::new().map_err(|error| {
        let error = io::Error::from(error);
        match error.kind() {
            io::ErrorKind::NotFound => KvmObstacle::NoDevice,
            io::ErrorKind::PermissionDenied => KvmObstacle::NoPermission,
            _ => KvmObstacle::CannotOpen { source: Arc::new(error) },
        }
    })?;
    match kvm.get_api_version() {
        API_VERSION => Ok(kvm),
        version => Err(KvmObstacle::OtherVersion { version }),
    }
}

/// What the flags say; only x86 has any.
fn processor() -> Result<Option<Virtualization>, KvmObstacle> {
    if !cfg!(target_arch = "x86_64") {
        return Ok(None);
    }
    let info = CpuInfo::read()
        .map_err(|source| KvmObstacle::UnknownProcessor { source: Arc::new(source) })?;
    info.virtualization.map(Some).ok_or(KvmObstacle::NoVirtualization)
}
