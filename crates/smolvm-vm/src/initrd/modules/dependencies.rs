//! What a module needs, by the list that `depmod` writes (`modules.dep(5)`).

use std::collections::{HashMap, HashSet};

/// The lines of a `modules.dep`, by the names of their modules.
#[derive(Debug)]
pub(super) struct Dependencies<'a> {
    by_name: HashMap<String, Listed<'a>>,
}

/// One line: a module and all that it needs, each by its path relative to the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed<'a> {
    pub(super) path: &'a str,
    /// Whatever these need in turn is among them; the last is loaded first.
    pub(super) dependencies: Vec<&'a str>,
}

impl<'a> Dependencies<'a> {
    /// Parses the list. Lines with paths that lead elsewhere are left out.
    pub(super) fn parse(list: &'a str) -> Self {
        let by_name = list.lines().filter_map(|line| {
            let (path, dependencies) = line.split_once(':')?;
            let path = Some(path).filter(|path| is_module(path))?;
            let dependencies = dependencies.split_whitespace().filter(|path| is_module(path));
            Some((name_of(path), Listed { path, dependencies: dependencies.collect() }))
        });
        Self { by_name: by_name.collect() }
    }

    pub(super) fn has(&self, driver: &str) -> bool {
        self.by_name.contains_key(driver)
    }

    /// The drivers and all that they need, each once, in an order that they can be loaded in.
    pub(super) fn load_order(&self, drivers: &[&str]) -> Vec<Listed<'a>> {
        let mut order = Vec::new();
        let mut seen = HashSet::new();
        for driver in drivers {
            let Some(listed) = self.by_name.get(*driver) else { continue };
            for path in listed.dependencies.iter().rev().chain([&listed.path]) {
                if seen.insert(*path) {
                    order.extend(self.by_name.get(&name_of(path)).cloned());
                }
            }
        }
        order
    }
}

/// The paths in a list without dependencies, such as `modules.builtin`.
pub(super) fn modules_in(list: &str) -> impl Iterator<Item = &str> {
    list.lines().filter(|path| is_module(path))
}

/// The name that the kernel knows a module by: `virtio_blk` for
/// `kernel/drivers/block/virtio-blk.ko.xz`.
pub(super) fn name_of(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split('.').next().unwrap_or(file).replace('-', "_")
}

/// Whether it is the path of a module that lies below the directory of the list.
fn is_module(path: &str) -> bool {
    const ENDINGS: &[&str] = &[".ko", ".ko.xz", ".ko.zst", ".ko.gz"];
    ENDINGS.iter().any(|ending| path.ends_with(ending))
        && path.split('/').all(|component| !["", ".", ".."].contains(&component))
        && !path.contains(|character: char| character.is_control() || character.is_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "\
kernel/drivers/virtio/virtio.ko:
kernel/drivers/virtio/virtio_ring.ko: kernel/drivers/virtio/virtio.ko
kernel/drivers/block/virtio_blk.ko.xz: kernel/drivers/virtio/virtio_ring.ko kernel/drivers/virtio/virtio.ko
kernel/net/core/failover.ko:
kernel/drivers/net/net-failover.ko: kernel/net/core/failover.ko
../outside.ko:
/etc/absolute.ko:
kernel/inside.ko: ../../outside.ko
not a module: x
";

    fn order(drivers: &[&str]) -> Vec<String> {
        let listed = Dependencies::parse(LIST).load_order(drivers);
        listed.iter().map(|listed| name_of(listed.path)).collect()
    }

    #[test]
    fn what_is_needed_comes_first_and_once() {
        assert_eq!(order(&["virtio_blk", "virtio_ring"]), ["virtio", "virtio_ring", "virtio_blk"]);
        assert_eq!(order(&["net_failover", "none"]), ["failover", "net_failover"]);
    }

    #[test]
    fn paths_that_lead_elsewhere_are_left_out() {
        let dependencies = Dependencies::parse(LIST);
        assert!(!dependencies.has("outside") && !dependencies.has("absolute"));
        assert_eq!(order(&["inside"]), ["inside"]);
        assert_eq!(
            modules_in("kernel/a.ko\n../b.ko\n\nc.txt\n").collect::<Vec<_>>(),
            ["kernel/a.ko"]
        );
    }
}
