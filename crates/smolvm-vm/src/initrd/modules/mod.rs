//! The kernel's drivers that a guest cannot reach its disk and its host without, read out of a
//! rootfs before it boots.

mod dependencies;
mod packed;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fs::File;

use dependencies::{Dependencies, Listed, modules_in, name_of};

use super::ext4::{Ext4, Ext4Error};

/// The drivers of the devices that a VM has, and of what its root file system is put together
/// with. A driver comes before those that the kernel loads it for.
pub(crate) const WANTED: &[&str] = &[
    "virtio",
    "virtio_ring",
    "virtio_mmio",
    "virtio_pci_modern_dev",
    "virtio_pci_legacy_dev",
    "virtio_pci",
    "virtio_blk",
    "virtio_console",
    "virtio_rng",
    "failover",
    "net_failover",
    "virtio_net",
    "vsock",
    "vmw_vsock_virtio_transport_common",
    "vmw_vsock_virtio_transport",
    // ext4 asks for its checksum by name, and so no list of dependencies has it.
    "crc32c_generic",
    "crc32c_intel",
    "libcrc32c",
    "ext4",
    "overlay",
];

/// The modules for one kernel: those that were wanted, with all that they depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Modules {
    /// What `uname -r` says in the guest.
    pub(crate) release: String,
    /// In the order to load them in.
    pub(crate) files: Vec<Module>,
    /// The wanted drivers that are part of the kernel, as lines of `modules.builtin`.
    pub(crate) builtin: Vec<String>,
    /// The wanted drivers that the rootfs has in neither form.
    pub(crate) missing: Vec<String>,
}

/// The file of a driver. Where its name still ends with `.xz`, `.zst` or `.gz`, it could not be
/// unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Module {
    /// Relative to `/lib/modules/<release>`.
    pub(crate) path: String,
    /// The modules that it needs, by their paths; the last is loaded first.
    pub(crate) dependencies: Vec<String>,
    pub(crate) content: Vec<u8>,
}

/// Why a rootfs gave no modules. That is no error where the kernel or the image's own initrd has
/// the drivers; where neither does, this is what to say.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum NoModules {
    /// The rootfs cannot be read before it is booted.
    #[error("the rootfs gave no kernel modules: {0}")]
    Unreadable(#[from] Ext4Error),
    /// It has no directory for the kernel.
    #[error("the rootfs has no kernel modules for {release} in /lib/modules{}", instead(found))]
    NoRelease {
        /// The kernel's release.
        release: String,
        /// The releases that it has modules for.
        found: Vec<String>,
    },
    /// The modules are larger than the drivers of any guest.
    #[error("the drivers in the rootfs for {release} are larger than {limit} bytes")]
    TooLarge {
        /// The kernel's release.
        release: String,
        /// The limit in bytes.
        limit: usize,
    },
}

/// Debian's largest list has a megabyte.
const MOST_LIST: u64 = 16 << 20;

/// No driver is larger, debugging symbols and all, nor are all of them together.
const MOST_MODULE: u64 = 32 << 20;
const MOST_MODULES: usize = 64 << 20;

/// Where modules are: the second where `/lib` is neither a directory nor a symlink.
const PLACES: &[&str] = &["/lib/modules", "/usr/lib/modules"];

/// Reads the `wanted` drivers, and what they depend on, out of the ext4 file system in `rootfs`.
///
/// `release` is the kernel's, as [`Kernel`](crate::kernel::Kernel) tells it. The lists are those
/// that `depmod` writes, `modules.dep(5)` and `modules.builtin`. The file's cursor is not moved,
/// and memory and time are bounded whatever the image holds.
pub(crate) fn from_rootfs(
    rootfs: &File,
    release: &str,
    wanted: &[&str],
) -> Result<Modules, NoModules> {
    let ext4 = Ext4::open(rootfs)?;
    for place in PLACES {
        let directory = format!("{place}/{release}");
        let list = |name| ext4.read(&format!("{directory}/{name}"), MOST_LIST);
        let Some(dependencies) = list("modules.dep")? else { continue };
        let builtin = list("modules.builtin")?.unwrap_or_default();
        let (dependencies, builtin) =
            (String::from_utf8_lossy(&dependencies), String::from_utf8_lossy(&builtin));
        let dependencies = Dependencies::parse(&dependencies);
        let mut modules = Modules::named(release, wanted, &dependencies, &builtin);
        modules.read_files(&ext4, &directory, &dependencies.load_order(wanted))?;
        return Ok(modules);
    }
    let found = PLACES.iter().find_map(|place| ext4.list(place).ok().flatten());
    let mut found = found.unwrap_or_default();
    // The guest chose the names, and they go to a terminal.
    found.retain(|name| name.chars().all(|character| character.is_ascii_graphic()));
    Err(NoModules::NoRelease { release: release.to_owned(), found })
}

impl Modules {
    /// `modules.dep` of these modules alone.
    pub(super) fn dependency_list(&self) -> String {
        let lines = self.files.iter().flat_map(|module| {
            let dependencies = module.dependencies.iter().flat_map(|path| [" ", path]);
            [&module.path, ":"].into_iter().chain(dependencies).chain(["\n"])
        });
        lines.collect()
    }

    /// `modules.builtin` of the wanted drivers alone.
    pub(super) fn builtin_list(&self) -> String {
        self.builtin.iter().flat_map(|path| [path, "\n"]).collect()
    }

    /// Sorts the wanted drivers by where they are, and reads nothing yet.
    fn named(
        release: &str,
        wanted: &[&str],
        dependencies: &Dependencies<'_>,
        builtin: &str,
    ) -> Self {
        let builtin: Vec<_> = modules_in(builtin)
            .filter(|path| wanted.iter().any(|driver| name_of(path) == *driver))
            .map(str::to_owned)
            .collect();
        let is_builtin = |driver: &str| builtin.iter().any(|path| name_of(path) == driver);
        let missing =
            wanted.iter().filter(|driver| !is_builtin(driver) && !dependencies.has(driver));
        Self {
            release: release.to_owned(),
            files: Vec::new(),
            missing: missing.map(|driver| (*driver).to_owned()).collect(),
            builtin,
        }
    }

    fn read_files(
        &mut self,
        ext4: &Ext4<'_>,
        directory: &str,
        listed: &[Listed<'_>],
    ) -> Result<(), NoModules> {
        let mut left = MOST_MODULES;
        let mut unpacked = HashMap::new();
        for Listed { path, dependencies } in listed {
            let Some(content) = ext4.read(&format!("{directory}/{path}"), MOST_MODULE)? else {
                self.missing.push(name_of(path));
                continue;
            };
            let (name, content) = packed::unpack(path, &content, MOST_MODULE)
                .unwrap_or_else(|| ((*path).to_owned(), content));
            left = left.checked_sub(content.len()).ok_or_else(|| NoModules::TooLarge {
                release: self.release.clone(),
                limit: MOST_MODULES,
            })?;
            unpacked.insert(*path, name.clone());
            // They came before.
            let name_of = |path: &&str| unpacked.get(path).map_or(*path, String::as_str).to_owned();
            let dependencies = dependencies.iter().map(name_of).collect();
            self.files.push(Module { path: name, dependencies, content });
        }
        Ok(())
    }
}

fn instead(found: &[String]) -> String {
    const MOST_NAMED: usize = 5;
    if found.is_empty() {
        return String::new();
    }
    let more = if found.len() > MOST_NAMED { ", ..." } else { "" };
    format!(", only for {}{more}", found[..found.len().min(MOST_NAMED)].join(", "))
}
