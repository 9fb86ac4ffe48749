//! A place where an agent that does something else than it was asked for does no harm.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, chroot, symlink};
use std::path::Path;
use std::process::Command;

use crate::sys::agent_for_test;

/// Whether an agent can be confined here.
pub(super) fn is_possible() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// Makes `directory` a root directory with a shell.
pub(super) fn prepare(directory: &Path, busybox: &Path) {
    for made in ["bin", "dev/pts", "dir", "proc"] {
        fs::create_dir_all(directory.join(made)).unwrap();
    }
    fs::copy(busybox, directory.join("bin/busybox")).unwrap();
    File::create(directory.join("dev/null")).unwrap();
    symlink("pts/ptmx", directory.join("dev/ptmx")).unwrap();
}

/// Confines the calling process to `directory`, with a network of its own.
pub(super) fn enter(directory: &Path) {
    const MOUNT: &str = "mount --make-rprivate / && cd \"$1\" && mount -t proc proc proc \
                         && mount --bind /dev/null dev/null && mount -t devpts devpts dev/pts";
    agent_for_test::leave_machine().unwrap();
    let mounted = Command::new("sh").args(["-c", MOUNT, "sh"]).arg(directory).status().unwrap();
    assert!(mounted.success());
    chroot(directory).unwrap();
    std::env::set_current_dir("/").unwrap();
}
