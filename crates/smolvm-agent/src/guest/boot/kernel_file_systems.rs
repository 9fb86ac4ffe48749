//! The file systems that the kernel makes: processes, devices, memory.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::console;
use super::error::BootError;
use crate::sys::mount::{self, Flags};

/// A file system without a device, and where it is expected.
struct KernelFileSystem {
    kind: &'static str,
    target: &'static str,
    flags: Flags,
    options: &'static str,
}

/// What the agent itself needs to boot.
fn first() -> [KernelFileSystem; 3] {
    let strict = Flags::NO_SUID | Flags::NO_EXEC;
    [
        KernelFileSystem {
            kind: "proc",
            target: "/proc",
            flags: strict | Flags::NO_DEVICES,
            options: "",
        },
        KernelFileSystem {
            kind: "sysfs",
            target: "/sys",
            flags: strict | Flags::NO_DEVICES,
            options: "",
        },
        KernelFileSystem { kind: "devtmpfs", target: "/dev", flags: strict, options: "mode=0755" },
    ]
}

/// What programs expect besides; an init finds it mounted already and leaves it so.
fn rest() -> [KernelFileSystem; 3] {
    let strict = Flags::NO_SUID | Flags::NO_DEVICES;
    [
        KernelFileSystem {
            kind: "devpts",
            target: "/dev/pts",
            flags: Flags::NO_SUID | Flags::NO_EXEC,
            // The group of terminals is 5 wherever there is one.
            options: "gid=5,mode=0620,ptmxmode=0666",
        },
        KernelFileSystem { kind: "tmpfs", target: "/dev/shm", flags: strict, options: "mode=1777" },
        KernelFileSystem { kind: "tmpfs", target: "/run", flags: strict, options: "mode=0755" },
    ]
}

/// What an init would mount.
fn control_groups() -> KernelFileSystem {
    KernelFileSystem {
        kind: "cgroup2",
        target: "/sys/fs/cgroup",
        flags: Flags::NO_SUID | Flags::NO_DEVICES | Flags::NO_EXEC,
        options: "",
    }
}

/// Names in `/dev` that programs expect and that are no devices.
const LINKS: &[(&str, &str)] = &[
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
];

/// Mounts what the agent itself needs to boot. A kernel that has mounted the root file system may
/// have mounted `/dev` as well, which is refused then.
pub(super) fn mount_first() -> Result<(), BootError> {
    for file_system in first() {
        match file_system.mount() {
            Err(error) if error.kind() != io::ErrorKind::ResourceBusy => {
                return Err(BootError::Mount {
                    what: file_system.kind.to_owned(),
                    target: file_system.target.into(),
                    error,
                });
            }
            _ => {}
        }
    }
    Ok(())
}

/// Moves it into the root file system that is mounted at `root`.
pub(super) fn move_into(root: &Path) {
    for KernelFileSystem { target, .. } in first() {
        let to = root.join(target.trim_start_matches('/'));
        let moved = create_directory(&to).and_then(|()| mount::move_to(Path::new(target), &to));
        if let Err(error) = moved {
            console::note(format_args!("the root file system is without {target}: {error}"));
        }
    }
}

/// Mounts the rest, in the root file system that was entered.
pub(super) fn mount_rest(has_init: bool) {
    let groups = (!has_init).then(control_groups);
    for file_system in rest().into_iter().chain(groups) {
        if let Err(error) = file_system.mount() {
            let target = file_system.target;
            console::note(format_args!("the root file system is without {target}: {error}"));
        }
    }
    for (link, to) in LINKS {
        // An init makes them as well.
        let _ = symlink(to, link);
    }
}

impl KernelFileSystem {
    fn mount(&self) -> io::Result<()> {
        let target = Path::new(self.target);
        create_directory(target)?;
        mount::attach(Path::new(self.kind), target, self.kind, self.flags, self.options)
    }
}

/// Makes a mount point, unless it is there.
fn create_directory(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}
