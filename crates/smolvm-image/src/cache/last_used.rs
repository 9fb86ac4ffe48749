//! When an image was last used: the time of an empty file, one for each image and user.
//!
//! It is a note for choosing what to prune first, no more: where it cannot be written, nothing is.
//! A stamp counts only if it belongs to the user that its name says, so that nobody who shares the
//! cache makes another one's.

use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{Stat, Timespec, Timestamps, UTIME_NOW};

use super::dir::{self, Dir};
use super::make::is_temporary_name;
use super::record::RECORD_FILE;
use super::store::{self, Store};
use crate::error::ImageError;

/// Separates the image's name from the user's number; no name has it.
const SEPARATOR: char = '@';

/// Notes that this user has used an image just now, where the cache can be written to.
pub(crate) fn note_use(root: &Path, image: &str) {
    if let Err(error) = try_note(root, image) {
        log::debug!("the use of '{image}' is not noted: {error}");
    }
}

fn try_note(root: &Path, image: &str) -> Result<(), ImageError> {
    let Some((state, modes)) = store::open_state(root)? else { return Ok(()) };
    let stamps = state.ensure_dir(store::LAST_USED, modes.dir)?;
    let name = format!("{image}{SEPARATOR}{}", rustix::process::geteuid().as_raw());
    let failed = |error| ImageError::io(&stamps.path_of(&name), "write", error);
    // Others may look at it, and only its user may change it.
    let stamp = stamps.open_or_create(&name, modes.partial).map_err(failed)?;
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let now = Timestamps { last_access: now, last_modification: now };
    rustix::fs::futimens(&stamp, &now).map_err(|error| failed(error.into()))
}

/// When an image was last used by anybody, or else when it was put into the cache: a time that no
/// user can set.
pub(super) fn of_image(store: &Store, image: &str, dir: &Dir) -> SystemTime {
    let stamps = stamps_of(store, image).into_iter();
    let used = stamps.filter(|(_, is_genuine, _)| *is_genuine).map(|(.., modified)| modified);
    let now = SystemTime::now();
    let made = || {
        let stat = dir.stat(RECORD_FILE).ok().flatten().or_else(|| dir.own_stat().ok());
        stat.map_or(now, |stat| time(stat.st_ctime, stat.st_ctime_nsec))
    };
    // A stamp of the future is a wrong clock, or somebody who wants the image to stay for ever.
    used.max().unwrap_or_else(made).min(now)
}

/// Forgets when an image that is gone was used.
pub(super) fn forget(store: &Store, image: &str) {
    let Some(stamps) = &store.last_used else { return };
    for (name, ..) in stamps_of(store, image) {
        let _ = stamps.unlink(&name);
    }
}

/// The stamps of images that are gone.
pub(super) fn stale(store: &Store) -> Result<Vec<String>, ImageError> {
    let Some(stamps) = &store.last_used else { return Ok(Vec::new()) };
    let mut names = stamps.names()?;
    names.retain(|name| {
        let image = name.rsplit_once(SEPARATOR).map(|(image, _)| image);
        let is_there = image.is_some_and(|image| store.root.inode_of(image).is_some());
        !is_there && !is_temporary_name(name)
    });
    Ok(names)
}

/// The stamps of an image: their names, whether each is its user's own, and their times.
fn stamps_of(store: &Store, image: &str) -> Vec<(String, bool, SystemTime)> {
    let Some(stamps) = &store.last_used else { return Vec::new() };
    let names = stamps.names().unwrap_or_default().into_iter();
    let stamp = |name: String| {
        let user = name.strip_prefix(image)?.strip_prefix(SEPARATOR)?.parse::<u32>().ok()?;
        let stat: Stat = stamps.stat(&name).ok()??;
        let modified = time(stat.st_mtime, stat.st_mtime_nsec);
        Some((name, dir::is_regular(&stat) && stat.st_uid == user, modified))
    };
    names.filter_map(stamp).collect()
}

fn time(seconds: i64, nanoseconds: u64) -> SystemTime {
    let seconds = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    SystemTime::UNIX_EPOCH + seconds + Duration::from_nanos(nanoseconds)
}
