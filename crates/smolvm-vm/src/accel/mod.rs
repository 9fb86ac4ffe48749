//! Which accelerator runs guests: KVM where it really runs guest code, else emulation (TCG).
//!
//! [`choose`] decides, [`KvmChecks`] shows what the decision rests on.

mod cpuinfo;
mod kvm;
mod obstacle;
mod probe;

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::kernel::Architecture;

pub(crate) use cpuinfo::CpuInfo;
pub(crate) use kvm::KvmChecks;
pub(crate) use obstacle::KvmObstacle;

/// The environment variable that decides over every other setting: `auto`, `kvm` or `tcg`. Empty
/// is as good as unset.
pub(crate) const OVERRIDE: &str = "SMOLVM_ACCEL";

/// The accelerator that is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Accel {
    /// KVM where it works, else TCG.
    #[default]
    Auto,
    /// KVM, or an error.
    Kvm,
    /// TCG, without a look at KVM.
    Tcg,
}

/// The accelerator that a VM runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Accelerator {
    /// The processor runs the guest, under the kernel's supervision.
    Kvm,
    /// QEMU translates the guest's code.
    Tcg,
}

/// What [`choose`] came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chosen {
    /// What the VM is to run on.
    pub(crate) accelerator: Accelerator,
    /// What the user is to be told once: why guests will be slower than they could be.
    pub(crate) notice: Option<String>,
}

/// Why no accelerator was chosen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccelError {
    /// The variable holds something else than an accelerator.
    #[error(
        "{OVERRIDE} is {value:?}, which is none of auto, kvm and tcg. Unset it, or set it to one of them"
    )]
    UnknownOverride {
        /// What the variable holds.
        value: OsString,
    },

    /// KVM was asked for by name and does not work here.
    #[error("KVM is asked for, but {obstacle}. {}", obstacle.remedy())]
    KvmUnusable {
        /// The first check that failed.
        obstacle: KvmObstacle,
    },
}

/// Decides what a guest of the architecture `guest` runs on. `wanted` is what the VM's
/// configuration says; [`OVERRIDE`] in the environment counts more.
///
/// The host is asked once per process.
pub(crate) fn choose(wanted: Accel, guest: Architecture) -> Result<Chosen, AccelError> {
    let wanted = overridden(wanted, env::var_os(OVERRIDE).as_deref())?;
    decide(wanted, || {
        if Architecture::of_host() == Some(guest) {
            KvmChecks::of_this_host().obstacle().cloned()
        } else {
            Some(KvmObstacle::ForeignGuest { guest })
        }
    })
}

/// What is asked for in the end, when the environment says `value`.
fn overridden(wanted: Accel, value: Option<&OsStr>) -> Result<Accel, AccelError> {
    let Some(value) = value.filter(|value| !value.is_empty()) else {
        return Ok(wanted);
    };
    value
        .to_str()
        .and_then(|value| value.parse().ok())
        .ok_or_else(|| AccelError::UnknownOverride { value: value.to_owned() })
}

/// The decision, with the host's answer asked for only where it matters.
fn decide(
    wanted: Accel,
    obstacle: impl FnOnce() -> Option<KvmObstacle>,
) -> Result<Chosen, AccelError> {
    let obstacle = match wanted {
        Accel::Tcg => return Ok(Chosen { accelerator: Accelerator::Tcg, notice: None }),
        Accel::Auto | Accel::Kvm => obstacle(),
    };
    match obstacle {
        None => Ok(Chosen { accelerator: Accelerator::Kvm, notice: None }),
        Some(obstacle) if wanted == Accel::Kvm => Err(AccelError::KvmUnusable { obstacle }),
        Some(obstacle) => Ok(Chosen {
            accelerator: Accelerator::Tcg,
            notice: Some(format!(
                "guests are emulated (TCG), which is slower than KVM: {obstacle}. {} \
                 ({OVERRIDE}=tcg chooses emulation without this notice)",
                obstacle.remedy()
            )),
        }),
    }
}

/// A word that names no accelerator.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the accelerator is none of auto, kvm and tcg")]
pub(crate) struct UnknownAccel;

impl FromStr for Accel {
    type Err = UnknownAccel;

    fn from_str(word: &str) -> Result<Self, UnknownAccel> {
        match word {
            "auto" => Ok(Self::Auto),
            "kvm" => Ok(Self::Kvm),
            "tcg" => Ok(Self::Tcg),
            _ => Err(UnknownAccel),
        }
    }
}

impl fmt::Display for Accelerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;

    #[test]
    fn auto_takes_kvm_where_nothing_is_in_its_way() {
        let chosen = decide(Accel::Auto, || None).unwrap();
        assert_eq!(chosen, Chosen { accelerator: Accelerator::Kvm, notice: None });
    }

    #[test]
    fn auto_takes_tcg_with_the_reason_otherwise() {
        let chosen = decide(Accel::Auto, || Some(KvmObstacle::NoDevice)).unwrap();
        assert_eq!(chosen.accelerator, Accelerator::Tcg);
        let notice = chosen.notice.unwrap();
        assert!(notice.contains("/dev/kvm does not exist"), "{notice}");
        assert!(notice.contains("modprobe"), "{notice}");
        assert!(notice.contains("SMOLVM_ACCEL=tcg"), "{notice}");
    }

    #[test]
    fn kvm_by_name_is_kvm_or_an_error_with_a_remedy() {
        assert_eq!(decide(Accel::Kvm, || None).unwrap().accelerator, Accelerator::Kvm);
        let error = decide(Accel::Kvm, || Some(KvmObstacle::NoDevice)).unwrap_err().to_string();
        assert!(error.contains("KVM is asked for, but /dev/kvm does not exist"), "{error}");
        assert!(error.contains("modprobe"), "{error}");
    }

    #[test]
    fn tcg_by_name_asks_nobody_and_says_nothing() {
        let chosen = decide(Accel::Tcg, || panic!("the host was asked")).unwrap();
        assert_eq!(chosen, Chosen { accelerator: Accelerator::Tcg, notice: None });
    }

    #[test]
    fn the_environment_counts_more_than_the_configuration() {
        for (value, accel) in [("auto", Accel::Auto), ("kvm", Accel::Kvm), ("tcg", Accel::Tcg)] {
            for wanted in [Accel::Auto, Accel::Kvm, Accel::Tcg] {
                assert_eq!(overridden(wanted, Some(OsStr::new(value))).unwrap(), accel);
            }
        }
        assert_eq!(overridden(Accel::Tcg, None).unwrap(), Accel::Tcg);
        assert_eq!(overridden(Accel::Tcg, Some(OsStr::new(""))).unwrap(), Accel::Tcg);
    }

    #[test]
    fn what_is_no_accelerator_is_refused_by_name() {
        for value in ["KVM", "hvf", "kvm:tcg", " tcg"] {
            let error = overridden(Accel::Auto, Some(OsStr::new(value))).unwrap_err().to_string();
            assert!(error.contains(&format!("SMOLVM_ACCEL is {value:?}")), "{error}");
        }
        assert!(overridden(Accel::Auto, Some(OsStr::from_bytes(b"\xff"))).is_err());
    }

    #[test]
    fn a_foreign_guest_is_never_entrusted_to_kvm() {
        let foreign = match Architecture::of_host() {
            Some(Architecture::X86_64) => Architecture::Aarch64,
            _ => Architecture::X86_64,
        };
        // The variable may be set to an accelerator by who runs the tests.
        if env::var_os(OVERRIDE).is_none() {
            let chosen = choose(Accel::Auto, foreign).unwrap();
            assert_eq!(chosen.accelerator, Accelerator::Tcg);
            assert!(chosen.notice.unwrap().contains(&foreign.to_string()));
            let error = choose(Accel::Kvm, foreign).unwrap_err().to_string();
            assert!(error.contains("KVM runs no guests for"), "{error}");
        }
    }

    #[test]
    fn the_choice_on_this_host_is_that_of_its_checks() {
        let checks = KvmChecks::of_this_host();
        println!("{checks:#?}");
        let chosen = decide(Accel::Auto, || checks.obstacle().cloned()).unwrap();
        println!("{chosen:#?}");
        assert_eq!(chosen.accelerator == Accelerator::Kvm, checks.obstacle().is_none());
        assert_eq!(chosen.notice.is_none(), checks.obstacle().is_none());
    }
}
