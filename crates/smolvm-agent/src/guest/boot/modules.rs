//! The kernel's modules on disk, and loading one with all that it needs.
//!
//! The layout of the directories is that of depmod(8) and modprobe(8): `modules.dep`,
//! `modules.alias`, `modules.softdep`.

use std::collections::{HashMap, HashSet};
use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::sys::module;

/// The modules of the running kernel.
#[derive(Debug)]
pub(super) struct Modules {
    trees: Vec<Tree>,
    /// The kernel's command line, which has parameters for modules too.
    command_line: String,
    loaded: HashSet<String>,
}

/// Why a module is not in the kernel.
#[derive(Debug)]
pub(super) enum Missing {
    /// There is no file with it. (It may be built in.)
    Absent,
    /// The kernel does not load what there is.
    Refused { path: PathBuf, error: io::Error },
}

/// A directory with modules, as depmod(8) leaves it.
#[derive(Debug)]
struct Tree {
    directory: PathBuf,
    /// Of each module by its name: its file, and the files of all that it needs, of which the last
    /// is loaded first.
    files: HashMap<String, Vec<String>>,
    /// Other names of modules.
    aliases: Vec<(String, String)>,
    /// What a module needs without its file saying so.
    soft: Vec<(String, String)>,
}

/// How much a module needs another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    /// Not at all, but it is better with it.
    Soft,
    /// It cannot be loaded without.
    Hard,
}

impl Modules {
    /// The modules in those of these directories that exist; the first one that has a module that
    /// the kernel takes is right.
    pub(super) fn find(directories: &[PathBuf], command_line: String) -> Self {
        let trees = directories.iter().filter_map(|directory| Tree::read(directory)).collect();
        Self { trees, command_line, loaded: HashSet::new() }
    }

    /// Loads the module `name` and before it what it needs. Loading one twice does no harm.
    pub(super) fn load(&mut self, name: &str) -> Result<(), Missing> {
        let mut missing = Missing::Absent;
        for tree in &self.trees {
            match tree.load(name, &self.command_line, &mut self.loaded) {
                Ok(()) => return Ok(()),
                Err(Missing::Absent) => {}
                Err(refused) => missing = refused,
            }
        }
        Err(missing)
    }
}

impl Tree {
    fn read(directory: &Path) -> Option<Self> {
        let dependencies = fs::read_to_string(directory.join("modules.dep")).ok()?;
        let soft = fs::read_to_string(directory.join("modules.softdep")).unwrap_or_default();
        let soft = parse_soft_dependencies(&soft);
        // The file is long, and its names are wanted for soft dependencies alone.
        let aliases = match soft.as_slice() {
            [] => String::new(),
            _ => fs::read_to_string(directory.join("modules.alias")).unwrap_or_default(),
        };
        Some(Self {
            directory: directory.to_owned(),
            files: parse_dependencies(&dependencies),
            aliases: parse_aliases(&aliases),
            soft,
        })
    }

    fn load(
        &self,
        name: &str,
        command_line: &str,
        loaded: &mut HashSet<String>,
    ) -> Result<(), Missing> {
        for (file, need) in self.plan(name).ok_or(Missing::Absent)? {
            let name = module_name(file);
            if loaded.contains(&name) {
                continue;
            }
            let path = self.directory.join(file);
            match (insert(&path, &parameters(command_line, &name)), need) {
                (Ok(()), _) => {
                    loaded.insert(name);
                }
                (Err(_), Need::Soft) => {}
                (Err(error), Need::Hard) => return Err(Missing::Refused { path, error }),
            }
        }
        Ok(())
    }

    /// The files to load for the module `name`, in their order; `None` when there is none with it.
    fn plan(&self, name: &str) -> Option<Vec<(&str, Need)>> {
        let mut plan = Vec::new();
        for file in self.files.get(name)?.iter().rev() {
            let module = module_name(file);
            let soft = self.soft.iter().filter(|(of, _)| *of == module);
            for better_with in soft.flat_map(|(_, needed)| self.named(needed)) {
                let files = self.files.get(better_with).into_iter().flatten().rev();
                plan.extend(files.map(|file| (file.as_str(), Need::Soft)));
            }
            plan.push((file, Need::Hard));
        }
        Some(plan)
    }

    /// The modules that go by this name.
    fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let own = self.files.get_key_value(&module_name(name)).map(|(own, _)| own.as_str());
        let aliases = self.aliases.iter().filter(move |(alias, _)| alias == name);
        own.into_iter().chain(aliases.map(|(_, module)| module.as_str()))
    }
}

/// Loads the module in the file at `path`.
fn insert(path: &Path, parameters: &str) -> io::Result<()> {
    let compressed = path.extension().is_some_and(|extension| extension != "ko");
    match module::load(&File::open(path)?, &CString::new(parameters)?, compressed) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result,
    }
}

/// Reads `modules.dep`: `kernel/fs/ext4/ext4.ko: kernel/fs/jbd2/jbd2.ko …`.
fn parse_dependencies(text: &str) -> HashMap<String, Vec<String>> {
    let line = |line: &str| {
        let (file, needed) = line.split_once(':')?;
        let files = [file].into_iter().chain(needed.split_whitespace());
        Some((module_name(file), files.map(str::to_owned).collect()))
    };
    text.lines().filter_map(line).collect()
}

/// Reads `modules.alias`: `alias crc32c crc32c_generic`. Those with wildcards are for devices.
fn parse_aliases(text: &str) -> Vec<(String, String)> {
    let line = |line: &str| {
        let mut words = line.strip_prefix("alias ")?.split_whitespace();
        let alias = words.next().filter(|alias| !alias.contains('*'))?;
        Some((alias.to_owned(), module_name(words.next()?)))
    };
    text.lines().filter_map(line).collect()
}

/// Reads `modules.softdep`: `softdep ext4 pre: crc32c post: …`, of which the latter can wait.
fn parse_soft_dependencies(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("softdep ")) {
        let mut words = line.split_whitespace();
        let Some(module) = words.next() else { continue };
        let pre = words.skip_while(|&word| word != "pre:").skip(1);
        for needed in pre.take_while(|word| !word.ends_with(':')) {
            found.push((module_name(module), needed.to_owned()));
        }
    }
    found
}

/// The name of the module in a file: the kernel writes it without hyphens.
fn module_name(file: &str) -> String {
    let name = file.rsplit('/').next().unwrap_or(file);
    let name = name.split_once(".ko").map_or(name, |(name, _)| name);
    name.replace('-', "_")
}

/// The parameters of a module that the kernel's command line has: the kernel itself takes only
/// those of built-in ones, all others are for the program that loads the module.
fn parameters(command_line: &str, name: &str) -> String {
    let parameters: Vec<_> = command_line
        .split_whitespace()
        .filter_map(|word| {
            let (module, parameter) = word.split_once('.')?;
            (module.replace('-', "_") == name).then_some(parameter)
        })
        .collect();
    parameters.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dependency_list_is_read_by_the_names_of_modules() {
        let files = parse_dependencies(
            "kernel/drivers/virtio/virtio.ko: kernel/drivers/virtio/virtio_ring.ko\n\
             kernel/drivers/block/virtio-blk.ko.xz: kernel/a.ko.xz kernel/b.ko.xz\n\
             kernel/lib/crc16.ko:\n\
             nonsense\n",
        );
        assert_eq!(files.len(), 3);
        assert_eq!(
            files["virtio_blk"],
            ["kernel/drivers/block/virtio-blk.ko.xz", "kernel/a.ko.xz", "kernel/b.ko.xz"]
        );
        assert_eq!(files["crc16"], ["kernel/lib/crc16.ko"]);
    }

    #[test]
    fn soft_dependencies_are_those_before_the_module() {
        let found = parse_soft_dependencies(
            "# comment\nsoftdep ext4 pre: crc32c  mbcache post: late\nsoftdep btrfs post: x\nsoftdep\n",
        );
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(found, [pair("ext4", "crc32c"), pair("ext4", "mbcache")]);
    }

    #[test]
    fn what_a_module_needs_comes_before_it_with_what_that_is_better_for() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        write("modules.dep", "xfs.ko: libcrc32c.ko\nlibcrc32c.ko:\ncrc32c-intel.ko:\n");
        write("modules.softdep", "softdep libcrc32c pre: crc32c\n");
        write(
            "modules.alias",
            "alias crc32c crc32c-intel\nalias crc32c nowhere\nalias pci:v* xfs\n",
        );
        let tree = Tree::read(directory.path()).unwrap();
        assert_eq!(
            tree.plan("xfs").unwrap(),
            [("crc32c-intel.ko", Need::Soft), ("libcrc32c.ko", Need::Hard), ("xfs.ko", Need::Hard)]
        );
        assert_eq!(tree.plan("crc32c"), None);
    }

    #[test]
    fn the_command_line_has_parameters_for_modules() {
        let line = "quiet virtio_mmio.device=512@0xd0000000:5 virtio-mmio.device=512@0xd0001000:6 \
                    net.ifnames=0 a.b";
        assert_eq!(
            parameters(line, "virtio_mmio"),
            "device=512@0xd0000000:5 device=512@0xd0001000:6"
        );
        assert_eq!(parameters(line, "virtio_blk"), "");
    }

    #[test]
    fn a_module_that_is_nowhere_is_absent_and_one_that_is_broken_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("modules.dep"), "kernel/broken.ko:\n").unwrap();
        let nowhere = directory.path().join("nowhere");
        let mut modules = Modules::find(&[nowhere, directory.path().to_owned()], String::new());
        assert!(matches!(modules.load("absent"), Err(Missing::Absent)));
        let Err(Missing::Refused { path, error }) = modules.load("broken") else {
            panic!("it was loaded");
        };
        assert!(path.ends_with("kernel/broken.ko"));
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
