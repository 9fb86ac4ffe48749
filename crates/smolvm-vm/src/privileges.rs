//! [`VmmUser`]: who runs the VMM where this process is root.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use smolvm_supervisor::control::Setting;

use crate::accel::Accelerator;
use crate::places::VmDirs;

/// A user that nobody else is: its number is the VM's own, and so is the group of that number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct VmmUser {
    number: u32,
    groups: Vec<u32>,
}

/// The first of the numbers, of which there are as many: no user database and no container manager
/// gives them out (systemd's `UIDS-GIDS`).
const FIRST: u32 = 0x7000_0000;
const COUNT: u64 = 0x0fff_0000;

const KVM: &str = "/dev/kvm";

impl VmmUser {
    /// The user for a VM's VMM; `None` where it runs as whoever starts it. The reason is told where
    /// that is root all the same.
    pub(crate) fn of(dirs: &VmDirs, accelerator: Accelerator) -> Result<Option<Self>, String> {
        let Some(number) = number(&dirs.runtime)? else { return Ok(None) };
        let groups = match accelerator {
            Accelerator::Tcg => Vec::new(),
            Accelerator::Kvm => groups_of_kvm()?,
        };
        Ok(Some(Self { number, groups }))
    }

    pub(crate) fn setting(&self) -> Setting {
        Setting::User { number: self.number, groups: self.groups.clone() }
    }
}

/// The number of the user for the VM whose sockets are in this directory; `None` where its programs
/// run as whoever starts them. The reason is told where that is root all the same.
pub(crate) fn number(runtime: &Path) -> Result<Option<u32>, String> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let digits = runtime.file_name().unwrap_or_default().to_string_lossy();
    let number = u64::from_str_radix(&digits, 16).unwrap_or(0) % COUNT;
    let number = FIRST + u32::try_from(number).unwrap_or(0);
    for map in ["uid_map", "gid_map"] {
        let map = fs_err::read_to_string(Path::new("/proc/self").join(map)).unwrap_or_default();
        if !is_mapped(&map, number) {
            return Err(format!("this root has no user of the number {number} to be"));
        }
    }
    Ok(Some(number))
}

/// The group that may use KVM, if not everybody may.
fn groups_of_kvm() -> Result<Vec<u32>, String> {
    let metadata = fs_err::metadata(KVM).map_err(|error| error.to_string())?;
    let (mode, group) = (metadata.mode(), metadata.gid());
    if mode & 0o006 == 0o006 {
        Ok(Vec::new())
    } else if mode & 0o060 == 0o060 && group != 0 {
        Ok(vec![group])
    } else {
        Err(format!("{KVM} is root's alone. Give it to a group: chgrp kvm {KVM}; chmod 660 {KVM}"))
    }
}

/// Whether a number is one of a user namespace (`user_namespaces(7)`): `inside outside count`.
fn is_mapped(map: &str, number: u32) -> bool {
    map.lines().any(|line| {
        let numbers: Vec<u64> =
            line.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect();
        matches!(numbers[..], [first, _, count] if (first..first + count).contains(&number.into()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_has_few_users() {
        assert!(is_mapped("         0          0 4294967295\n", FIRST));
        assert!(!is_mapped("0 100000 65536\n", FIRST));
        assert!(is_mapped("0 100000 65536\n1879048192 200000 65536", FIRST));
        assert!(!is_mapped("", FIRST));
    }
}
