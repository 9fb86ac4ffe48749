//! Syncing what was fetched after the result has been returned, where the process lives on.
//!
//! Nothing waits for it. A process that ends before has lost nothing: what has a pin is verified
//! before it is used. What is gained: a power loss costs no second fetch, and stamps hold in the
//! boots to come.

use std::io;
use std::path::{Path, PathBuf};
use std::thread::{self, Builder};
use std::time::Duration;

use smolvm_fork::{ForkMutex, Unshared};

use crate::cache::{self, Inode, Stamps, Store};
use crate::image::{Asset, ImageSource};
use crate::name::{FileName, ImageName};
use crate::progress::AssetKind;

/// How long the disk is left alone after a fetch. A process cannot end in the middle of a sync, so
/// that one that is done by then does not begin one.
const PAUSE: Duration = Duration::from_secs(1);

/// Files of an image, and what was noted of them.
struct Job {
    cache_dir: PathBuf,
    image: ImageName,
    files: Vec<(AssetKind, FileName, Inode)>,
    /// Becomes one that holds in other boots.
    stamps: Stamps,
}

/// What is to be synced, and the process that has a thread for it: a forked child has none.
#[derive(Default)]
struct Waiting {
    jobs: Vec<Job>,
    thread_of: Option<u32>,
}

static WAITING: ForkMutex<Waiting> = ForkMutex::new(Waiting { jobs: Vec::new(), thread_of: None });

/// Syncs files of an image, in a while and in another thread.
pub(crate) fn begin_later(
    cache_dir: &Path,
    source: &ImageSource,
    files: impl Iterator<Item = (AssetKind, Inode)>,
    stamps: Stamps,
) {
    let named = |(kind, inode)| {
        let of_kind = |asset: &&Asset| asset.kind == kind;
        Some((kind, source.assets().find(of_kind)?.file_name.clone(), inode))
    };
    let job = Job {
        cache_dir: cache_dir.to_owned(),
        image: source.name().clone(),
        files: files.filter_map(named).collect(),
        stamps,
    };
    let this_process = Some(std::process::id());
    let mut waiting = WAITING.lock();
    if waiting.thread_of != this_process {
        waiting.jobs.clear();
        let thread = Builder::new().name("smolvm-sync".to_owned()).spawn(work);
        if let Err(error) = thread {
            log::debug!("nothing is synced: {error}");
            return;
        }
        waiting.thread_of = this_process;
    }
    waiting.jobs.push(job);
}

fn work() {
    loop {
        thread::sleep(PAUSE);
        let jobs = {
            let mut waiting = WAITING.lock();
            if waiting.jobs.is_empty() {
                waiting.thread_of = None;
                return;
            }
            std::mem::take(&mut waiting.jobs)
        };
        for job in jobs {
            if let Err(error) = job.run() {
                log::debug!("'{}' is not synced: {error}", job.image);
            }
        }
    }
}

impl Job {
    fn run(&self) -> io::Result<()> {
        let Some(dir) =
            cache::open_image(&self.cache_dir, &self.image).map_err(io::Error::other)?
        else {
            return Ok(());
        };
        for (_, name, inode) in &self.files {
            // Opened anew: a copy of a file in use would keep it in use.
            let Some(file) = dir.open_file(name)? else { return Ok(()) };
            if Inode::of(&rustix::fs::fstat(&file)?) != *inode {
                return Ok(());
            }
            Unshared::new(file).sync_all()?;
        }
        dir.sync()?;
        let Some(store) = Store::open(&self.cache_dir).map_err(io::Error::other)? else {
            return Ok(());
        };
        store.root.sync()?;
        // Where they were noted anew meanwhile, these are of other files, or nothing new.
        let mut stamps = Stamps::read(&dir);
        if stamps == self.stamps && stamps.mark_synced(self.files.iter().map(|file| file.0)) {
            stamps.write(&store, &self.image).map_err(io::Error::other)?;
        }
        Ok(())
    }
}
