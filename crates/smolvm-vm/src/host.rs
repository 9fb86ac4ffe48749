//! What this host has and lacks for booting: [`check_host`].

use std::path::Path;

use serde::Serialize;

use crate::accel::KvmChecks;
use crate::backend::{Firecracker, Qemu, in_path};
use crate::cgroup::Cgroups;
use crate::kernel::Architecture;
use crate::network;

/// One thing that a host should have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct HostCheck {
    /// What it is, in a word or two.
    pub what: &'static str,
    /// Whether it is there.
    pub status: HostStatus,
    /// What was found.
    pub found: String,
    /// What to do about it, where something is to be done.
    pub remedy: Option<String>,
}

/// Whether something is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum HostStatus {
    /// It is there.
    Good,
    /// It is not there, and things go slower, or not all of them go.
    Limited,
    /// It is not there, and nothing goes without.
    Missing,
}

impl HostCheck {
    /// Something is there.
    #[must_use]
    pub fn good(what: &'static str, found: impl Into<String>) -> Self {
        Self { what, status: HostStatus::Good, found: found.into(), remedy: None }
    }

    /// Something is not there that can be done without.
    #[must_use]
    pub fn limited(
        what: &'static str,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let remedy = Some(remedy.into());
        Self { what, status: HostStatus::Limited, found: found.into(), remedy }
    }

    /// Something is not there that nothing goes without.
    #[must_use]
    pub fn missing(
        what: &'static str,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { status: HostStatus::Missing, ..Self::limited(what, found, remedy) }
    }
}

/// Looks at what booting machines needs. Starts nothing that stays, and changes nothing.
///
/// ```
/// let checks = smolvm_vm::check_host();
/// assert!(checks.iter().any(|check| check.what == "KVM"));
/// ```
#[must_use]
pub fn check_host() -> Vec<HostCheck> {
    vec![kvm(), qemu(), firecracker(), passt(), tap(), mke2fs(), memory(), limits()]
}

fn kvm() -> HostCheck {
    match KvmChecks::of_this_host().obstacle() {
        None => HostCheck::good("KVM", "it runs guests"),
        Some(obstacle) => {
            HostCheck::limited("KVM", format!("{obstacle}; guests are emulated"), obstacle.remedy())
        }
    }
}

fn qemu() -> HostCheck {
    match Qemu::find(Architecture::of_host().unwrap_or(Architecture::X86_64)) {
        Ok(qemu) => {
            let found = format!("{} {}", qemu.program.display(), qemu.version);
            HostCheck::good("QEMU", found)
        }
        Err(error) => {
            let text = error.to_string();
            let (found, remedy) = text.split_once(". ").unwrap_or((&text, "Install it"));
            HostCheck::missing("QEMU", found, remedy)
        }
    }
}

/// Nothing needs it: what it can run, QEMU can run too.
fn firecracker() -> HostCheck {
    match Firecracker::find() {
        Ok(found) => {
            let jail =
                found.jailer.map(|jailer| format!(", jailed by {}", jailer.program.display()));
            let (program, version) = (found.program.display(), found.version);
            let program = format!("{program} {version}{}", jail.unwrap_or_default());
            match network::obstacle_on_tap(network::Mode::User) {
                None => HostCheck::good("Firecracker", program),
                Some(obstacle) => {
                    let text = obstacle.to_string();
                    let (why, remedy) = text.split_once(". ").unwrap_or((&text, "Use QEMU"));
                    HostCheck::limited("Firecracker", format!("{program}; {why}"), remedy)
                }
            }
        }
        Err(error) => {
            let text = error.to_string();
            let (found, remedy) = text.split_once(". ").unwrap_or((&text, "Install it"));
            HostCheck::limited("Firecracker", found, remedy)
        }
    }
}

fn passt() -> HostCheck {
    match in_path(Path::new("passt")) {
        Some(path) => HostCheck::good("passt", path.display().to_string()),
        None => HostCheck::limited(
            "passt",
            "it is not there; guests reach no network",
            "Install the package passt (Debian, Ubuntu: apt install passt)",
        ),
    }
}

fn tap() -> HostCheck {
    match network::tap_obstacle() {
        None => HostCheck::good("tap", "this host makes tap networks"),
        Some(obstacle) => {
            let text = obstacle.to_string();
            let (found, remedy) = text.split_once(". ").unwrap_or((&text, "Use another network"));
            HostCheck::limited("tap", found, remedy)
        }
    }
}

fn limits() -> HostCheck {
    match Cgroups::find() {
        Ok(cgroups) => {
            HostCheck::good("limits", format!("cgroups limit {}", cgroups.controllers().join(", ")))
        }
        Err(reason) => HostCheck::limited(
            "limits",
            reason,
            "Boot the host with cgroups of version 2 alone (systemd.unified_cgroup_hierarchy=1), \
             or name one that is yours in SMOLVM_CGROUP",
        ),
    }
}

fn mke2fs() -> HostCheck {
    let places = ["mke2fs", "/sbin/mke2fs", "/usr/sbin/mke2fs"];
    match places.iter().find_map(|place| in_path(Path::new(place))) {
        Some(path) => HostCheck::good("mke2fs", path.display().to_string()),
        None => HostCheck::limited(
            "mke2fs",
            "it is not there; disks cannot be isolated by a scratch disk",
            "Install the package e2fsprogs",
        ),
    }
}

/// What a machine takes where nothing else is said.
fn memory() -> HostCheck {
    const NEEDED_MIB: u64 = 640;
    let text = fs_err::read_to_string("/proc/meminfo").unwrap_or_default();
    let available = text.lines().find_map(|line| {
        let kibibytes = line.strip_prefix("MemAvailable:")?.trim().strip_suffix(" kB")?;
        Some(kibibytes.parse::<u64>().ok()? / 1024)
    });
    match available {
        Some(mebibytes) if mebibytes < NEEDED_MIB => HostCheck::limited(
            "memory",
            format!("{mebibytes} MiB are available; a VM takes {NEEDED_MIB} where nothing is said"),
            "End something, or give VMs less memory",
        ),
        Some(mebibytes) => HostCheck::good("memory", format!("{mebibytes} MiB are available")),
        None => HostCheck::limited("memory", "nobody knows how much is available", "Mount /proc"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_good_has_a_remedy() {
        for check in check_host() {
            println!("{check:?}");
            assert_eq!(check.status == HostStatus::Good, check.remedy.is_none(), "{check:?}");
            assert!(!check.found.is_empty());
        }
    }
}
