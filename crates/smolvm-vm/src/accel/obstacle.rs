//! [`KvmObstacle`]: what keeps a host from running guests under KVM, and what to do about it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::kernel::Architecture;

/// Why KVM cannot be used. Each is one line for a person, and has a [remedy](Self::remedy).
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KvmObstacle {
    /// The guest's code is not the processor's.
    #[error("KVM runs no guests for {guest} on this host")]
    ForeignGuest {
        /// What the guest is made for.
        guest: Architecture,
    },

    /// The kernel offers no KVM.
    #[error("/dev/kvm does not exist")]
    NoDevice,

    /// It does, but not to this user.
    #[error("this user may not open /dev/kvm for reading and writing")]
    NoPermission,

    /// The device is there and does not open, for any other reason.
    #[error("/dev/kvm cannot be opened: {source}")]
    CannotOpen {
        /// What the kernel said.
        source: Arc<io::Error>,
    },

    /// What opened is not the KVM that every VMM expects.
    #[error("/dev/kvm speaks version {version} of its interface, not 12")]
    OtherVersion {
        /// The version that it says it has.
        version: i32,
    },

    /// The processor shows no hardware virtualization.
    #[error("the processor shows neither vmx nor svm in /proc/cpuinfo")]
    NoVirtualization,

    /// `/proc/cpuinfo` cannot be read, so that nothing is known of the processor.
    #[error("the processor is unknown: {source}")]
    UnknownProcessor {
        /// What was said, with the path.
        source: Arc<io::Error>,
    },

    /// KVM opens, but runs no guest code.
    #[error("KVM opens but runs no ordinary guest: {failure}")]
    ProbeFailed {
        /// How the probe ended.
        failure: ProbeFailure,
    },
}

impl KvmObstacle {
    /// What to do about it: a whole sentence or two.
    pub(crate) fn remedy(&self) -> &'static str {
        match self {
            Self::ForeignGuest { .. } => "An image for the host's own architecture can use it.",
            Self::NoDevice | Self::CannotOpen { .. } => {
                "Load the module with `modprobe kvm_intel` or `modprobe kvm_amd`; where this host \
                 is a virtual machine itself, its own host has to allow nested virtualization."
            }
            Self::NoPermission => {
                "Join the group that owns it with `sudo usermod -aG kvm $USER`, and log in again."
            }
            Self::OtherVersion { .. } | Self::ProbeFailed { .. } => {
                "This host's KVM does not run ordinary guests; use SMOLVM_ACCEL=tcg."
            }
            Self::NoVirtualization => {
                "Switch virtualization (VT-x or AMD-V) on in the firmware; where this host is a \
                 virtual machine itself, its own host has to allow nested virtualization."
            }
            Self::UnknownProcessor { .. } => "Mount /proc.",
        }
    }
}

/// How a probe ended that did not pass.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProbeFailure {
    /// A call that sets up the machine failed.
    #[error("it cannot {step}: {reason}")]
    Setup {
        /// What was to be done.
        step: &'static str,
        /// What the kernel said.
        reason: String,
    },

    /// The machine stopped where it should not have.
    #[error("the probe ended with {exit} after it had written {written:?}")]
    WrongExit {
        /// Why the machine stopped, in the kernel's words.
        exit: String,
        /// What the guest had written by then.
        written: String,
    },

    /// The machine halted, but had not done all it should have.
    #[error("the probe halted after it had written {written:?}")]
    WrongOutput {
        /// What the guest had written.
        written: String,
    },

    /// The machine was still running.
    #[error("the probe has not ended within {} s", limit.as_secs())]
    TimedOut {
        /// How long it was waited for.
        limit: Duration,
    },
}
