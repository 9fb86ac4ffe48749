//! Which kernel modules something needs, and in which order they load. A
//! package carries no dependency list (that is made when it is installed), so
//! each module is asked for its own.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::command;

/// A module, ready to be loaded.
pub(super) struct Module {
    pub(super) name: String,
    pub(super) object: Vec<u8>,
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
    let mut order = LoadOrder { found, built_in, busybox, modules: Vec::new() };
    for name in wanted {
        order.add(name)?;
    }
    Ok(order.modules)
}

struct LoadOrder<'a> {
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
        for needed in dependencies(&object) {
            self.add(&needed)?;
        }
        self.modules.push(Module { name: name.to_owned(), object });
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

    #[test]
    fn a_module_comes_after_what_it_needs_and_built_in_ones_are_left_out() {
        let tree = tempfile::tempdir().unwrap();
        let write = |name: &str, depends: &str| {
            let object = format!("\x7fELF\0license=GPL\0depends={depends}\0name=x\0");
            fs_err::write(tree.path().join(name), object).unwrap();
        };
        fs_err::write(tree.path().join("modules.builtin"), "kernel/fs/ext4/ext4.ko\n").unwrap();
        write("virtio-blk.ko", "virtio,virtio-ring");
        write("virtio.ko", "virtio-ring");
        write("virtio_ring.ko", "");

        let modules =
            load_order(tree.path(), &["virtio_blk", "ext4"], Path::new("busybox")).unwrap();
        let names: Vec<_> = modules.iter().map(|module| module.name.as_str()).collect();
        assert_eq!(names, ["virtio_ring", "virtio", "virtio_blk"]);
    }

    #[test]
    fn a_module_that_the_kernel_lacks_is_named() {
        let tree = tempfile::tempdir().unwrap();
        fs_err::write(tree.path().join("modules.builtin"), "").unwrap();
        let error = load_order(tree.path(), &["vsock"], Path::new("busybox")).err().unwrap();
        assert!(error.to_string().contains("vsock"), "{error}");
    }
}
