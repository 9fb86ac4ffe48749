//! Removing machines that nobody needs any more, and counting what machines take on disk.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::error::VmError;
use crate::state::VmState;
use crate::supervisor::{self, Leftover};
use crate::vms::{Vms, info};

/// What [`Vms::prune`] removes, beside what dead programs have left.
///
/// ```
/// use std::time::Duration;
///
/// use smolvm_vm::VmPruneOptions;
///
/// let options = VmPruneOptions::new().older_than(Duration::from_hours(7 * 24)).dry_run(true);
/// # let _ = options;
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VmPruneOptions {
    dry_run: bool,
    older_than: Option<Duration>,
}

/// What a prune has removed, or in a dry run would.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PrunedVms {
    /// Each of them, by the names of their directories.
    pub items: Vec<PrunedVm>,
    /// The bytes that they took on disk, as `du` counts them. Blocks that a disk shares with
    /// another file count, too, and do not come free.
    pub freed_bytes: u64,
}

/// A directory that a prune has removed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PrunedVm {
    /// The directory.
    pub path: PathBuf,
    /// What was in it.
    pub what: VmLeaving,
    /// The bytes that it took on disk.
    pub freed_bytes: u64,
}

/// What a prune removes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum VmLeaving {
    /// What a program has left that was killed.
    Leftover,
    /// A virtual machine that does not run.
    Stopped,
}

impl VmPruneOptions {
    /// Only what dead programs have left goes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Only says what would go.
    #[must_use]
    pub fn dry_run(mut self, dry_run: bool) -> Self {
        self.dry_run = dry_run;
        self
    }

    /// Machines go, with their disks, that have not run for this long: since they ended, or since
    /// they were made where they never ran. Not those that a program has open that owns them.
    #[must_use]
    pub fn older_than(mut self, age: Duration) -> Self {
        self.older_than = Some(age);
        self
    }
}

impl Vms {
    /// Removes machines that nobody needs any more. One that is started meanwhile stays.
    ///
    /// # Errors
    /// [`VmError::Io`] where the directory cannot be read, [`VmError::Supervisor`] where a machine
    /// cannot be removed; others may be gone by then.
    pub fn prune(&self, options: &VmPruneOptions) -> Result<PrunedVms, VmError> {
        let vms = self.directory();
        let entries = fs_err::read_dir(vms).map_err(|error| VmError::io(vms, "list", error))?;
        let mut directories: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        directories.sort();
        let mut pruned = PrunedVms::default();
        for path in directories {
            let id = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let is_due = || -> Result<bool, VmError> {
                Ok(self.idle(&id)?.is_some_and(|idle| options.is_due(idle)))
            };
            let failed = |source| VmError::Supervisor { id: id.clone(), source };
            let Some(leftover) = supervisor::leftover(&path).map_err(failed)? else { continue };
            let what = match &leftover {
                Leftover::OfDeadProgram(_) => VmLeaving::Leftover,
                Leftover::Kept(_) if is_due()? => VmLeaving::Stopped,
                Leftover::Kept(_) => continue,
            };
            let freed_bytes = disk_usage(&path);
            if !options.dry_run {
                leftover.remove().map_err(failed)?;
            }
            pruned.freed_bytes += freed_bytes;
            pruned.items.push(PrunedVm { path, what, freed_bytes });
        }
        Ok(pruned)
    }

    /// The bytes that all machines take on disk, as `du` counts them, with what is kept for later
    /// boots. Blocks that they share with other files count, too.
    #[must_use]
    pub fn disk_usage(&self) -> u64 {
        disk_usage(self.directory())
    }

    /// For how long a machine has not run; `None` where it runs, or there is none of this id.
    fn idle(&self, id: &str) -> Result<Option<Duration>, VmError> {
        let Ok(id) = id.parse() else { return Ok(None) };
        let Some((record, dirs)) = self.read(&id)? else { return Ok(None) };
        let info = info(&record, &dirs);
        if info.state == VmState::Running {
            return Ok(None);
        }
        // Its supervisor wrote to it last when the machine ended.
        let ended = fs_err::metadata(supervisor::state_file(&dirs.state));
        let ended = ended.and_then(|metadata| metadata.modified()).unwrap_or(info.created);
        let since = ended.max(info.created);
        Ok(Some(SystemTime::now().duration_since(since).unwrap_or_default()))
    }
}

impl VmPruneOptions {
    fn is_due(&self, idle: Duration) -> bool {
        self.older_than.is_some_and(|age| idle >= age)
    }
}

/// The bytes that a directory takes on disk with everything below it: holes not, links once.
fn disk_usage(directory: &Path) -> u64 {
    fn add(path: &Path, seen: &mut HashSet<(u64, u64)>) -> u64 {
        const BLOCK: u64 = 512;
        // What goes at this moment is not there.
        let Ok(metadata) = fs_err::symlink_metadata(path) else { return 0 };
        let is_new = seen.insert((metadata.dev(), metadata.ino()));
        let mut bytes = if is_new { metadata.blocks() * BLOCK } else { 0 };
        if metadata.is_dir() {
            let entries = fs_err::read_dir(path).into_iter().flatten().flatten();
            bytes += entries.map(|entry| add(&entry.path(), seen)).sum::<u64>();
        }
        bytes
    }
    add(directory, &mut HashSet::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disk_counts_links_once_and_holes_not() {
        let temp = tempfile::tempdir().unwrap();
        let empty = disk_usage(temp.path());
        fs_err::write(temp.path().join("file"), vec![1; 1 << 20]).unwrap();
        fs_err::hard_link(temp.path().join("file"), temp.path().join("link")).unwrap();
        fs_err::File::create(temp.path().join("hole")).unwrap().set_len(1 << 30).unwrap();
        let added = disk_usage(temp.path()) - empty;
        assert!(((1 << 20)..(2 << 20)).contains(&added), "{added}");
        assert_eq!(disk_usage(&temp.path().join("none")), 0);
    }

    #[test]
    fn what_is_no_machine_is_not_pruned() {
        let temp = tempfile::tempdir().unwrap();
        let vms = Vms::at(temp.path()).unwrap();
        fs_err::create_dir(temp.path().join("mine")).unwrap();
        fs_err::write(temp.path().join("mine/file"), "x").unwrap();
        fs_err::write(temp.path().join("file"), "x").unwrap();
        // Of a supervisor that was killed as it made a machine.
        fs_err::create_dir(temp.path().join("half")).unwrap();
        fs_err::write(temp.path().join("half/lock"), "").unwrap();
        let all = VmPruneOptions::new().older_than(Duration::ZERO);
        let pruned = vms.prune(&all.clone().dry_run(true)).unwrap();
        assert_eq!(pruned.items.len(), 1);
        assert_eq!(pruned.items[0].what, VmLeaving::Leftover);
        assert!(temp.path().join("half").exists());
        assert_eq!(vms.prune(&all).unwrap(), pruned);
        assert!(!temp.path().join("half").exists());
        assert!(temp.path().join("mine/file").exists() && temp.path().join("file").exists());
        assert_eq!(vms.prune(&all).unwrap(), PrunedVms::default());
    }
}
