//! Which kernel modules something needs, in which order they load, and how
//! `modules.dep` says so. A package carries no such file (that is made when it
//! is installed), so each module is asked for its own needs.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::command;

/// A module, ready to be loaded.
pub(super) struct Module {
    name: String,
    /// Where it is below the directory of its release, as a file that is not
    /// compressed: `kernel/drivers/block/virtio_blk.ko`.
    pub(super) path: String,
    pub(super) object: Vec<u8>,
    /// The names of the modules that it asks for itself.
    needs: Vec<String>,
}

/// The modules `wanted` and all that they need, each after what it needs.
/// Those that are built into the kernel are left out.
///
/// `busybox` decompresses modules that a release has compressed.
pub(super) fn load_order(tree: &Path, wanted: &[&str], busybox: &Path) -> Result<Vec<Module>> {
    let mut found = BTreeMap::new();
    index(tree, &mut found)?;
    let built_in = fs_err::read_to_string(tree.join("modules.builtin"))?;
    let built_in = built_in.lines().filter_map(|line| module_name(Path::new(line))).collect();
    let mut order = LoadOrder { tree, found, built_in, busybox, modules: Vec::new() };
    for name in wanted {
        order.add(name)?;
    }
    Ok(order.modules)
}

/// Those of `modules` that are `wanted` or needed for it. `modules` are in load
/// order, and so are these.
pub(super) fn needed_for<'a>(modules: &'a [Module], wanted: &[&'a str]) -> Vec<&'a Module> {
    let mut names: HashSet<&str> = wanted.iter().copied().collect();
    let mut needed = Vec::new();
    for module in modules.iter().rev() {
        if names.contains(module.name.as_str()) {
            names.extend(module.needs.iter().map(String::as_str));
            needed.push(module);
        }
    }
    needed.reverse();
    needed
}

/// `modules.dep` as modprobe(8) reads it: each module's path, and the paths of
/// all that it needs, of which the last is loaded first.
pub(super) fn dependency_list(modules: &[Module]) -> String {
    let mut list = String::new();
    for module in modules {
        let needed = needed_for(modules, &[&module.name]);
        list.push_str(&module.path);
        list.push(':');
        for other in needed.iter().rev().skip(1) {
            // Writing to a string cannot fail.
            let _ = write!(list, " {}", other.path);
        }
        list.push('\n');
    }
    list
}

struct LoadOrder<'a> {
    tree: &'a Path,
    found: BTreeMap<String, PathBuf>,
    built_in: HashSet<String>,
    busybox: &'a Path,
    modules: Vec<Module>,
}

impl LoadOrder<'_> {
    fn add(&mut self, name: &str) -> Result<()> {
        let there = self.modules.iter().any(|module| module.name == name);
        if there || self.built_in.contains(name) {
            return Ok(());
        }
        let path = self.found.get(name);
        let path = path.with_context(|| format!("the kernel has no module {name}"))?;
        let object = read(path, self.busybox)?;
        let path = uncompressed(path.strip_prefix(self.tree)?);
        let needs = dependencies(&object);
        for needed in &needs {
            self.add(needed)?;
        }
        self.modules.push(Module { name: name.to_owned(), path, object, needs });
        Ok(())
    }
}

fn index(dir: &Path, found: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in fs_err::read_dir(dir)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            index(&path, found)?;
        } else if let Some(name) = module_name(&path) {
            found.insert(name, path);
        }
    }
    Ok(())
}

/// `virtio_blk` for `…/virtio-blk.ko.xz`: file names may have dashes where the
/// kernel has underscores.
fn module_name(path: &Path) -> Option<String> {
    let (name, suffix) = path.file_name()?.to_str()?.split_once(".ko")?;
    matches!(suffix, "" | ".xz" | ".gz").then(|| name.replace('-', "_"))
}

/// The path of a module without what tells that it is compressed.
fn uncompressed(path: &Path) -> String {
    let path = path.to_string_lossy();
    path.trim_end_matches(".xz").trim_end_matches(".gz").to_owned()
}

fn read(path: &Path, busybox: &Path) -> Result<Vec<u8>> {
    let unpack = match path.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => "unxz",
        Some("gz") => "gunzip",
        _ => return Ok(fs_err::read(path)?),
    };
    let mut unpack_command = Command::new(busybox);
    let output = unpack_command.args([unpack, "-c"]).arg(path).output()?;
    if !output.status.success() {
        bail!("`{}` failed", command::describe(&unpack_command));
    }
    Ok(output.stdout)
}

/// The names in the module's `depends=` line; those lines end with a NUL.
fn dependencies(object: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = object.windows(KEY.len()).position(|window| window == KEY) else {
        return Vec::new();
    };
    let value = object[at + KEY.len()..].split(|&byte| byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(value)
        .split(',')
        .filter(|name| !name.is_empty())
        .map(|name| name.replace('-', "_"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kernel's modules, of which `virtio_blk` needs one that needs another.
    fn sample() -> tempfile::TempDir {
        let tree = tempfile::tempdir().unwrap();
        let write = |path: &str, depends: &str| {
            let object = format!("\x7fELF\0license=GPL\0depends={depends}\0name=x\0");
            let path = tree.path().join(path);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(path, object).unwrap();
        };
        fs_err::write(tree.path().join("modules.builtin"), "kernel/fs/ext4/ext4.ko\n").unwrap();
        write("kernel/block/virtio-blk.ko", "virtio");
        write("kernel/virtio/virtio.ko", "virtio-ring");
        write("kernel/virtio/virtio_ring.ko", "");
        write("kernel/net/failover.ko", "");
        tree
    }

    fn names(modules: &[&Module]) -> Vec<String> {
        modules.iter().map(|module| module.name.clone()).collect()
    }

    #[test]
    fn a_module_comes_after_what_it_needs_and_built_in_ones_are_left_out() {
        let tree = sample();
        let wanted = ["virtio_blk", "ext4", "failover"];
        let modules = load_order(tree.path(), &wanted, Path::new("busybox")).unwrap();
        let all: Vec<_> = modules.iter().collect();
        assert_eq!(names(&all), ["virtio_ring", "virtio", "virtio_blk", "failover"]);
        let disk = needed_for(&modules, &["virtio_blk", "ext4"]);
        assert_eq!(names(&disk), ["virtio_ring", "virtio", "virtio_blk"]);
    }

    #[test]
    fn the_dependency_list_names_all_that_a_module_needs_the_first_to_load_last() {
        let tree = sample();
        let modules = load_order(tree.path(), &["virtio_blk"], Path::new("busybox")).unwrap();
        assert_eq!(
            dependency_list(&modules),
            "kernel/virtio/virtio_ring.ko:\n\
             kernel/virtio/virtio.ko: kernel/virtio/virtio_ring.ko\n\
             kernel/block/virtio-blk.ko: kernel/virtio/virtio.ko kernel/virtio/virtio_ring.ko\n"
        );
    }

    #[test]
    fn a_compressed_module_lies_in_the_initrd_under_its_plain_name() {
        assert_eq!(uncompressed(Path::new("kernel/lib/crc7.ko.xz")), "kernel/lib/crc7.ko");
        assert_eq!(uncompressed(Path::new("kernel/lib/crc7.ko")), "kernel/lib/crc7.ko");
    }

    #[test]
    fn a_module_that_the_kernel_lacks_is_named() {
        let tree = tempfile::tempdir().unwrap();
        fs_err::write(tree.path().join("modules.builtin"), "").unwrap();
        let error = load_order(tree.path(), &["vsock"], Path::new("busybox")).err().unwrap();
        assert!(error.to_string().contains("vsock"), "{error}");
    }
}
