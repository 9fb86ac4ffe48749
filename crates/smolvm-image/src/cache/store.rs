//! [`Store`]: a cache that may be written to, with the modes that its directories and files get.
//! Reading needs none of it: [`open_root`] and [`open_image`] make nothing.

use std::collections::BTreeSet;
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use smolvm_fork::ForkMutex;

use super::dir::Dir;
use super::lock::{self, Lock};
use crate::cancel::CancelToken;
use crate::error::ImageError;
use crate::name::ImageName;

/// The layout that this version writes.
const LAYOUT: u32 = 1;

pub(super) const STATE: &str = ".state";
/// The times of last use (`last_used`), and who needs an image (`holders`). They are made when
/// something is put there.
pub(super) const LAST_USED: &str = "last-used";
pub(super) const IN_USE: &str = "in-use";
const PARTIAL: &str = "partial";
const LOCKS: &str = "locks";
const VERSION: &str = "version";

/// The modes of what the cache makes, set whatever the umask.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Modes {
    pub(crate) dir: Mode,
    /// Locks and notes: whoever may use the cache may continue a transfer.
    pub(crate) working: Mode,
    /// Partial files: nobody else may write to what is hashed only as it arrives.
    pub(crate) partial: Mode,
    /// Published assets and records: read-only.
    pub(crate) published: Mode,
}

impl Modes {
    const PRIVATE: Self = Self {
        dir: Mode::RWXU,
        working: Mode::RUSR.union(Mode::WUSR),
        partial: Mode::RUSR.union(Mode::WUSR),
        published: Mode::RUSR,
    };
    /// In a directory that its owner made setgid and group-writable, to share it.
    const GROUP: Self = Self {
        dir: Mode::SGID.union(Mode::RWXU).union(Mode::RWXG),
        working: Mode::RUSR.union(Mode::WUSR).union(Mode::RGRP).union(Mode::WGRP),
        partial: Mode::RUSR.union(Mode::WUSR).union(Mode::RGRP),
        published: Mode::RUSR.union(Mode::RGRP),
    };

    /// The modes that fit the directory that the cache lies in.
    fn of(root: Mode) -> Self {
        if root.contains(Mode::SGID | Mode::WGRP) { Self::GROUP } else { Self::PRIVATE }
    }
}

/// A cache that may be written to.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) root: Dir,
    pub(crate) partial: Dir,
    pub(crate) locks: Dir,
    pub(super) last_used: Option<Dir>,
    pub(super) in_use: Option<Dir>,
    pub(crate) modes: Modes,
    /// Whether a lock that was granted surely excludes others.
    pub(crate) locks_exclude: bool,
}

impl Store {
    /// Opens the cache at `path`, made where there is none.
    pub(crate) fn create(path: &Path) -> Result<Self, ImageError> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|error| ImageError::io(path, "create the directory", error))?;
        let root = Dir::open_root(path)
            .map_err(|error| ImageError::io(path, "open the directory", error))?;
        let mode = mode_of(&root)?;
        warn_if_open_to_others(path, mode);
        let modes = Modes::of(mode);
        let state = root.ensure_dir(STATE, modes.dir)?;
        mark_layout(path, &state, modes)?;
        let partial = state.ensure_dir(PARTIAL, modes.dir)?;
        let locks = state.ensure_dir(LOCKS, modes.dir)?;
        let locks_exclude = locks.locks_exclude();
        let (last_used, in_use) = notes(&state);
        Ok(Self { root, partial, locks, last_used, in_use, modes, locks_exclude })
    }

    /// Opens the cache at `path` to look at it; `None` where nothing was ever fetched to.
    pub(crate) fn open(path: &Path) -> Result<Option<Self>, ImageError> {
        let Some(root) = open_root(path)? else { return Ok(None) };
        let Some(state) = root.open_dir(STATE)? else { return Ok(None) };
        has_known_layout(path, &state)?;
        let (Some(partial), Some(locks)) = (state.open_dir(PARTIAL)?, state.open_dir(LOCKS)?)
        else {
            return Ok(None);
        };
        let modes = Modes::of(mode_of(&root)?);
        let locks_exclude = locks.locks_exclude();
        let (last_used, in_use) = notes(&state);
        Ok(Some(Self { root, partial, locks, last_used, in_use, modes, locks_exclude }))
    }

    /// The directory of an image, made where there is none.
    pub(crate) fn ensure_image(&self, name: &ImageName) -> Result<Dir, ImageError> {
        self.root.ensure_dir(name, self.modes.dir)
    }

    /// Waits for the lock under which the directory of an image may change.
    pub(crate) fn lock_image(&self, name: &str, cancel: &CancelToken) -> Result<Lock, ImageError> {
        lock::acquire(&self.locks, &format!("image-{name}"), self.modes.working, cancel, |_| {})
    }

    /// Waits for the lock under which one process fetches an image and notes that it has verified
    /// it, so that those that wait need not hash what it has. `on_wait` is that of
    /// [`lock::acquire`].
    pub(crate) fn lock_fetch(
        &self,
        name: &ImageName,
        cancel: &CancelToken,
        on_wait: impl FnOnce(Option<u32>),
    ) -> Result<Lock, ImageError> {
        lock::acquire(&self.locks, &format!("fetch-{name}"), self.modes.working, cancel, on_wait)
    }

    /// The lock of an image, or `None` where another process has it.
    pub(super) fn try_lock_image(&self, name: &str) -> Result<Option<Lock>, ImageError> {
        lock::try_acquire(&self.locks, &format!("image-{name}"), self.modes.working)
    }
}

/// The directories of what is noted of images, where they are there.
fn notes(state: &Dir) -> (Option<Dir>, Option<Dir>) {
    // A link in their place leads nowhere, as everywhere here.
    let open = |name| state.open_dir(name).ok().flatten();
    (open(LAST_USED), open(IN_USE))
}

fn mode_of(root: &Dir) -> Result<Mode, ImageError> {
    let stat = root.own_stat().map_err(|error| ImageError::io(root.path(), "look at", error))?;
    Ok(Mode::from_raw_mode(stat.st_mode))
}

/// Opens the cache at `path` for reading; `None` where there is none.
pub(crate) fn open_root(path: &Path) -> Result<Option<Dir>, ImageError> {
    match Dir::open_root(path) {
        Ok(root) => Ok(Some(root)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ImageError::io(path, "open the directory", error)),
    }
}

/// Opens the cache's own directory to note something there, with the modes that it gets; `None`
/// where there is none, or a later version's.
pub(super) fn open_state(path: &Path) -> Result<Option<(Dir, Modes)>, ImageError> {
    let Some(root) = open_root(path)? else { return Ok(None) };
    let Some(state) = root.open_dir(STATE)? else { return Ok(None) };
    let is_known = matches!(has_known_layout(path, &state), Ok(true));
    Ok(is_known.then_some((state, Modes::of(mode_of(&root)?))))
}

/// Whether a directory is a cache.
pub(crate) fn is_cache(path: &Path) -> bool {
    matches!(open_root(path), Ok(Some(root)) if matches!(root.open_dir(STATE), Ok(Some(_))))
}

/// Opens the directory of partial files for reading; `None` where there is none.
pub(super) fn open_partial(root: &Dir) -> Result<Option<Dir>, ImageError> {
    match root.open_dir(STATE)? {
        Some(state) => state.open_dir(PARTIAL),
        None => Ok(None),
    }
}

/// Opens the directory of an image for reading; `None` where there is none.
pub(crate) fn open_image(path: &Path, name: &str) -> Result<Option<Dir>, ImageError> {
    match open_root(path)? {
        Some(root) => root.open_dir(name),
        None => Ok(None),
    }
}

/// The names of the images that the cache has a directory of, sorted.
pub(crate) fn image_names(root: &Dir) -> Result<Vec<ImageName>, ImageError> {
    let names = root.names()?.into_iter().filter_map(|name| name.parse::<ImageName>().ok());
    Ok(names.filter(|name| matches!(root.open_dir(name), Ok(Some(_)))).collect())
}

/// Marks a new cache with its layout, and stays away from one with a later layout.
fn mark_layout(path: &Path, state: &Dir, modes: Modes) -> Result<(), ImageError> {
    if has_known_layout(path, state)? {
        return Ok(());
    }
    // No temporary file: whoever else begins the cache at this moment writes the same bytes.
    let write = || -> io::Result<()> {
        let file = state.open_or_create(VERSION, modes.working)?;
        file.write_all_at(format!("{LAYOUT}\n").as_bytes(), 0)
    };
    write().map_err(|error| ImageError::io(&state.path_of(VERSION), "write", error))
}

/// Whether the cache is marked with a layout of this version or an earlier one. A later one is an
/// error, no mark is none.
fn has_known_layout(path: &Path, state: &Dir) -> Result<bool, ImageError> {
    let failed = |error: io::Error| ImageError::io(&state.path_of(VERSION), "read", error);
    let mut text = String::new();
    if let Some(file) = state.open_file(VERSION).map_err(failed)? {
        file.take(64).read_to_string(&mut text).map_err(failed)?;
    }
    match text.trim() {
        "" => Ok(false),
        found if found.parse::<u32>().is_ok_and(|found| found <= LAYOUT) => Ok(true),
        found => Err(ImageError::NewerLayout {
            path: path.to_owned(),
            found: found.escape_default().to_string(),
            known: LAYOUT,
        }),
    }
}

/// Behaviour that only the owner can want on purpose gets a warning, once per process.
fn warn_if_open_to_others(path: &Path, mode: Mode) {
    static WARNED: ForkMutex<BTreeSet<PathBuf>> = ForkMutex::new(BTreeSet::new());
    let group = mode.contains(Mode::WGRP) && !mode.contains(Mode::SGID);
    if !group && !mode.contains(Mode::WOTH) {
        return;
    }
    if WARNED.lock().insert(path.to_owned()) {
        log::warn!(
            "others can write to the cache directory {}: they can replace what is in it. Make it private (chmod go-w), or share it with a group on purpose (chmod g+ws, best before its first use)",
            path.display()
        );
    }
}
