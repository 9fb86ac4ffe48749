//! Syncing what was fetched after the result has been returned, where the process lives on, and
//! enabling fs-verity for it.
//!
//! Nothing waits for it. A process that ends before has lost nothing: what has a pin is verified
//! before it is used. What is gained: a power loss costs no second fetch, and stamps hold in the
//! boots to come.

use std::io;
use std::path::PathBuf;
use std::thread::{self, Builder};
use std::time::Duration;

use smolvm_fork::{ForkMutex, Unshared};

use crate::cache::{self, Inode, Stamps, Store};
use crate::cancel::CancelToken;
use crate::image::{Asset, ImageSource};
use crate::manager::ImageManager;
use crate::name::{FileName, ImageName};
use crate::progress::AssetKind;
use crate::protect;

/// How long the disk is left alone after a fetch. A process cannot end in the middle of a sync, so
/// that one that is done by then does not begin one.
const PAUSE: Duration = Duration::from_secs(1);

/// What becomes of files beyond being cached.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WriteBack {
    /// Whether they are synced before they count as cached.
    pub(crate) sync: bool,
    /// Whether there may be a thread that does things after the result has been returned.
    pub(crate) later: bool,
    /// Whether they get fs-verity, where they can.
    pub(crate) fs_verity: bool,
}

impl Default for WriteBack {
    fn default() -> Self {
        Self { sync: false, later: true, fs_verity: false }
    }
}

impl WriteBack {
    /// Whether a file is on the disk before it counts as cached: what no digest will vouch for
    /// later has to be in any case.
    pub(crate) fn syncs(self, asset: &Asset) -> bool {
        self.sync || asset.digest.is_none()
    }
}

/// Files of an image, and what was noted of them.
pub(crate) struct Job {
    pub(crate) cache_dir: PathBuf,
    pub(crate) image: ImageName,
    pub(crate) files: Vec<(AssetKind, FileName, Inode)>,
    /// Becomes one that holds in other boots.
    pub(crate) stamps: Stamps,
    /// Whether the files are to have fs-verity.
    protect: bool,
}

/// What is to be synced, and the process that has a thread for it: a forked child has none.
#[derive(Default)]
struct Waiting {
    jobs: Vec<Job>,
    thread_of: Option<u32>,
}

static WAITING: ForkMutex<Waiting> = ForkMutex::new(Waiting { jobs: Vec::new(), thread_of: None });

/// Does what the settings of a manager ask for with files of an image: in a while and in another
/// thread, or now, where it has none. No writable descriptor of them may be open.
///
/// `sync` says whether there is any need to sync them.
pub(crate) fn begin(
    manager: &ImageManager,
    source: &ImageSource,
    files: &[(AssetKind, Inode)],
    (stamps, sync): (Stamps, bool),
    cancel: &CancelToken,
) {
    let sync = sync && manager.write_back.later;
    if !sync && !manager.write_back.fs_verity {
        return;
    }
    let named = |&(kind, inode): &(AssetKind, Inode)| {
        let asset = source.assets().find(|asset| asset.kind == kind)?;
        Some((kind, asset.file_name.clone(), inode))
    };
    let mut job = Job {
        cache_dir: manager.cache_dir.clone(),
        image: source.name().clone(),
        files: files.iter().filter_map(named).collect(),
        stamps,
        protect: false,
    };
    job.protect = manager.write_back.fs_verity && protect::is_of_use(&job);
    if sync || (job.protect && manager.write_back.later) {
        later(job);
    } else if job.protect {
        protect::run(&job, cancel);
    }
}

fn later(job: Job) {
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
            if let Err(error) = job.sync() {
                log::debug!("'{}' is not synced: {error}", job.image);
            }
            if job.protect {
                protect::run(&job, &CancelToken::new());
            }
        }
    }
}

impl Job {
    fn sync(&self) -> io::Result<()> {
        let Some(dir) =
            cache::open_image(&self.cache_dir, &self.image).map_err(io::Error::other)?
        else {
            return Ok(());
        };
        for (_, name, inode) in &self.files {
            // Opened anew: a copy of a file in use would keep it in use.
            let Some(file) = dir.open_this_file(name, *inode)? else { return Ok(()) };
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
