//! [`LoopMount`]: a file system that shares blocks between files, in a file.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use super::files::MIB;
use crate::command::{self, command};

/// An XFS, mounted where no other process of the machine sees it: for this one and what it starts.
/// It is gone when dropped, and with this process, however that ends.
pub(crate) struct LoopMount {
    directory: PathBuf,
}

/// The file has holes: it takes what is written to it.
const SIZE: u64 = 8192 * MIB;

impl LoopMount {
    /// Makes it in a new directory. Only root can.
    pub(crate) fn xfs(directory: &Path) -> Result<Self> {
        fs_err::create_dir_all(directory)?;
        let image = directory.with_extension("image");
        fs_err::File::create(&image)?.set_len(SIZE)?;
        command::capture(command("mkfs.xfs").arg("-q").arg(&image))?;
        unshare(CloneFlags::CLONE_NEWNS)
            .and_then(|()| {
                let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
                mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
            })
            .context("only root can mount a file system, which this case needs")?;
        let mut mount = command("mount");
        mount.args(["-o", "loop,nosuid,nodev"]).arg(&image).arg(directory);
        command::capture(&mut mount)?;
        // The loop device keeps it.
        fs_err::remove_file(&image)?;
        Ok(Self { directory: directory.to_owned() })
    }
}

impl Drop for LoopMount {
    fn drop(&mut self) {
        // Detached: what something still has open must not leave the mount behind.
        let _ = umount2(&self.directory, MntFlags::MNT_DETACH);
    }
}
