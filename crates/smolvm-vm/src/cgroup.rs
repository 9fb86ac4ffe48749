//! [`Cgroups`]: where VMs have cgroups with limits (version 2, `cgroups(7)`), on hosts that let this
//! user make some.

#[cfg(test)]
mod boot_tests;

use std::path::{Path, PathBuf};

use rustix::fs::Access;
use smolvm_supervisor::control::Setting;

use crate::accel::Accelerator;
use crate::places::VmDirs;

/// The cgroup that has one for each VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cgroups {
    directory: PathBuf,
    controllers: Vec<&'static str>,
}

/// The environment variable that names the cgroup below which those of VMs are made.
const BASE: &str = "SMOLVM_CGROUP";
/// What is limited, as the kernel names it.
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];
/// The name of the cgroup of all VMs.
const NAME: &str = "smolvm";

/// What a VMM needs besides the guest's memory, in MiB.
const OVERHEAD_MIB: u64 = 256;
/// What it may need besides for the guest's code in its own words, where that is emulated.
const TRANSLATED_MIB: u64 = 1024;
/// What a VMM has of threads besides those of the virtual processors.
const THREADS: u32 = 128;

impl Cgroups {
    /// The place for VMs' cgroups, which need not be there yet; changes nothing. An error says why
    /// there can be none.
    pub(crate) fn find() -> Result<Self, String> {
        let base = base()?;
        let path = base.join("cgroup.controllers");
        let text = fs_err::read_to_string(&path).map_err(|error| error.to_string())?;
        let has = |name: &&str| text.split_ascii_whitespace().any(|word| word == *name);
        let controllers: Vec<_> = CONTROLLERS.into_iter().filter(has).collect();
        if controllers.is_empty() {
            return Err(format!(
                "the cgroups below {} control neither cpu nor memory nor pids",
                base.display()
            ));
        }
        rustix::fs::access(&base, Access::WRITE_OK)
            .map_err(|error| format!("no cgroup can be made below {}: {error}", base.display()))?;
        Ok(Self { directory: base.join(NAME), controllers })
    }

    /// The same, made where it is not there yet.
    pub(crate) fn make() -> Result<Self, String> {
        let found = Self::find()?;
        let directory = &found.directory;
        match fs_err::create_dir(directory) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(error.to_string());
            }
            _ => {}
        }
        for parent in directory.parent().into_iter().chain([directory.as_path()]) {
            for controller in &found.controllers {
                let file = parent.join("cgroup.subtree_control");
                fs_err::write(file, format!("+{controller}")).map_err(|error| error.to_string())?;
            }
        }
        Ok(found)
    }

    /// What is limited.
    pub(crate) fn controllers(&self) -> &[&'static str] {
        &self.controllers
    }

    /// The cgroup for a VM: processor time for its virtual processors and one more for the VMM
    /// itself, memory for its own and what the VMM needs, and a bounded number of threads.
    pub(crate) fn setting(
        &self,
        dirs: &VmDirs,
        accelerator: Accelerator,
        vcpu_count: u32,
        mem_size_mib: u32,
    ) -> Setting {
        let translated = match accelerator {
            Accelerator::Kvm => 0,
            Accelerator::Tcg => TRANSLATED_MIB,
        };
        let memory = (u64::from(mem_size_mib) + OVERHEAD_MIB + translated) << 20;
        let all = [
            ("cpu", "cpu.max", format!("{} 100000", (vcpu_count + 1) * 100_000)),
            ("memory", "memory.max", memory.to_string()),
            ("memory", "memory.oom.group", "1".to_owned()),
            ("pids", "pids.max", (vcpu_count + THREADS).to_string()),
        ];
        let limits = all
            .into_iter()
            .filter(|(controller, ..)| self.controllers.contains(controller))
            .map(|(_, name, value)| (name.to_owned(), value));
        let name = dirs.runtime.file_name().unwrap_or_default();
        Setting::Group { path: self.directory.join(name), limits: limits.collect() }
    }
}

/// Removes the cgroup of a VM whose supervisor was killed, and that has ended.
pub(crate) fn remove_left(runtime: &Path) {
    if let (Ok(base), Some(name)) = (base(), runtime.file_name()) {
        let _ = fs_err::remove_dir(base.join(NAME).join(name));
    }
}

/// The cgroup below which there is one for all VMs.
fn base() -> Result<PathBuf, String> {
    let mount = mount().ok_or("there are no cgroups of version 2")?;
    if let Some(base) = std::env::var_os(BASE).filter(|base| !base.is_empty()) {
        let base = PathBuf::from(base);
        // Whether it is written as in the file system or as in /proc/self/cgroup.
        return Ok(if base.starts_with(&mount) {
            base
        } else {
            mount.join(base.strip_prefix("/").unwrap_or(&base))
        });
    }
    if rustix::process::geteuid().is_root() {
        return Ok(mount);
    }
    // A user that has been given a part of the tree has the cgroup above its own.
    let own = fs_err::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let own = mount.join(own);
    Ok(own.parent().filter(|parent| parent.starts_with(&mount)).unwrap_or(&mount).to_owned())
}

/// Where cgroups of version 2 are mounted.
fn mount() -> Option<PathBuf> {
    mount_in(&fs_err::read_to_string("/proc/self/mountinfo").ok()?)
}

/// `id parent device root mount-point options… - type source options`, by `proc_pid_mountinfo(5)`.
fn mount_in(table: &str) -> Option<PathBuf> {
    table.lines().find_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        let point = place.split(' ').nth(4)?;
        (kind.split(' ').next()? == "cgroup2").then(|| PathBuf::from(point))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_of_version_2_is_found_beside_that_of_version_1() {
        let hybrid = "30 24 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
            31 30 0:27 / /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu\n\
            32 30 0:28 / /sys/fs/cgroup/unified rw,relatime shared:10 master:1 - cgroup2 cgroup2 rw\n";
        assert_eq!(mount_in(hybrid), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(mount_in("31 30 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"), None);
    }

    #[test]
    fn what_is_limited_is_what_the_host_controls() {
        let temp = tempfile::tempdir().unwrap();
        let dirs =
            VmDirs { state: temp.path().join("vm"), runtime: temp.path().join("0123456789ab") };
        let limits = |controllers: &[&'static str], accelerator| {
            let cgroups =
                Cgroups { directory: "/cg/smolvm".into(), controllers: controllers.to_vec() };
            match cgroups.setting(&dirs, accelerator, 2, 512) {
                Setting::Group { path, limits } => {
                    assert_eq!(path, Path::new("/cg/smolvm/0123456789ab"));
                    limits
                        .into_iter()
                        .map(|(name, value)| format!("{name}={value}"))
                        .collect::<Vec<_>>()
                }
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(
            limits(&CONTROLLERS, Accelerator::Kvm),
            ["cpu.max=300000 100000", "memory.max=805306368", "memory.oom.group=1", "pids.max=130"]
        );
        assert_eq!(limits(&["memory"], Accelerator::Tcg)[0], "memory.max=1879048192");
    }
}
