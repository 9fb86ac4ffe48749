//! Enabling fs-verity for the files of an image, and noting what it calls their bytes.

use smolvm_fork::Unshared;

use crate::cache::{self, Dir, Stamp, Stamps, Steady, Store};
use crate::cancel::CancelToken;
use crate::error::ImageError;
use crate::name::FileName;
use crate::write_back::Job;

/// Whether one of the files lies where it can have fs-verity, and has none.
pub(crate) fn is_of_use(job: &Job) -> bool {
    let Ok(Some(dir)) = cache::open_image(&job.cache_dir, &job.image) else { return false };
    let open = |name: &FileName| dir.open_file(name).ok().flatten();
    job.files
        .iter()
        .filter_map(|(_, name, _)| open(name))
        .any(|file| cache::could_have_verity(&file))
}

/// Enables it for all of them that can have it. They stay as they are where that fails.
pub(crate) fn run(job: &Job, cancel: &CancelToken) {
    match enable(job, cancel) {
        // The caller knows; what was done by then is of use, and the rest is done the next time.
        Ok(()) | Err(ImageError::Cancelled) => {}
        Err(error) => {
            log::warn!("'{}' is cached, but not all of it has fs-verity: {error}", job.image);
        }
    }
}

fn enable(job: &Job, cancel: &CancelToken) -> Result<(), ImageError> {
    let Some(dir) = cache::open_image(&job.cache_dir, &job.image)? else { return Ok(()) };
    for (_, name, inode) in &job.files {
        let failed = |error| ImageError::io(&dir.path_of(name), "enable fs-verity for", error);
        // Another file that has the name by now is for others to protect.
        let Some(file) = dir.open_this_file(name, *inode).map_err(failed)? else { continue };
        let file = Unshared::new(file);
        if cache::could_have_verity(&file) {
            cache::enable_verity(&file).map_err(failed)?;
        }
    }
    note(job, &dir, cancel)
}

/// Hashes what has a stamp once more. Only now is it sure that the bytes with this SHA-256 digest
/// are those that fs-verity knows: before, they could have changed between the one and the other.
fn note(job: &Job, dir: &Dir, cancel: &CancelToken) -> Result<(), ImageError> {
    let mut stamps = Stamps::read(dir);
    let before = stamps.clone();
    for (kind, name, inode) in &job.files {
        // Without a stamp there is nothing to make better: the policy asks for none.
        let Some(stamp) = job.stamps.of(*kind).filter(|stamp| stamp.verity.is_none()) else {
            continue;
        };
        let Ok(Some(file)) = dir.open_this_file(name, *inode) else { continue };
        let Ok(verified) = cache::examine(file, |_| {}, cancel)? else {
            stamps.forget(*kind);
            continue;
        };
        let Some(Steady { state, verity: verity @ Some(_) }) = verified.steady.as_deref().copied()
        else {
            continue;
        };
        if verified.digest == stamp.digest {
            stamps.put(*kind, Stamp { state, verity, ..stamp.clone() });
        } else {
            stamps.forget(*kind);
        }
    }
    if stamps == before {
        return Ok(());
    }
    let Some(store) = Store::open(&job.cache_dir)? else { return Ok(()) };
    stamps.write(&store, &job.image)
}
