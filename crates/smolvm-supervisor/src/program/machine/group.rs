//! [`Group`]: a cgroup (version 2, `cgroups(7)`) of a VMM's own, with limits, while it runs.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// A cgroup. It is removed when dropped: whatever is in it ends at once.
#[derive(Debug)]
pub(super) struct Group(PathBuf);

/// How long the kernel may take to see that what was in it has ended.
const END: Duration = Duration::from_secs(2);

impl Group {
    /// Makes it, or takes one that a supervisor that was killed has left; `limits` are the names of
    /// files in it and what is written to them.
    pub(super) fn make(path: &Path, limits: &[(String, String)]) -> io::Result<Self> {
        remove(path)?;
        fs::create_dir(path)?;
        let group = Self(path.to_owned());
        for (name, value) in limits {
            fs::write(path.join(name), value).map_err(|error| {
                let file = path.join(name);
                io::Error::new(error.kind(), format!("{}: {error}", file.display()))
            })?;
        }
        Ok(group)
    }

    /// What puts whoever writes `0` to it into the cgroup.
    pub(super) fn entrance(&self) -> io::Result<OwnedFd> {
        let file: File = OpenOptions::new().write(true).open(self.0.join("cgroup.procs"))?;
        Ok(file.into())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // One that is left is removed at the next start.
        let _ = remove(&self.0);
    }
}

/// Ends what is in a cgroup, and removes it, if it is there.
fn remove(path: &Path) -> io::Result<()> {
    let deadline = Instant::now() + END;
    loop {
        match fs::remove_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.raw_os_error() == Some(EBUSY) && Instant::now() < deadline => {
                // Linux before 5.14 has no such file, but the VMM has been killed already.
                let _ = fs::write(path.join("cgroup.kill"), "1");
                thread::sleep(Duration::from_millis(2));
            }
            result => return result,
        }
    }
}

const EBUSY: i32 = 16;
