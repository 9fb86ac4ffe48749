//! Making what is in a jail, before the jailer closes it.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};

use super::{FILES, Jail, JailAccess, JailFile, LOG, NAME, SOCKETS};
use crate::arguments::FIRST_OWN;
use crate::sys::{self, Mount, UserMap};

/// What the keeper of a jail has of it.
pub(super) struct Built {
    /// What the VMM says of itself is read from this.
    pub(super) log: File,
    /// The files that are needed until the guest runs.
    pub(super) copies: Vec<File>,
}

/// What is to be in the jail, before there is one.
enum Part {
    Copy(File),
    Mount(Mount),
}

/// The memory of a jail besides that of copies and of the program, in bytes.
const SPARE: u64 = 1 << 20;
/// How many files, directories and devices there may be in it. The jailer makes about ten, and on
/// aarch64 some dozens that tell of the processor's caches.
const COUNT: u32 = 256;
const PAGE: u64 = 4096;

/// Moves this process to namespaces of its own, and makes there what the jail holds.
pub(super) fn build(jail: &Jail) -> io::Result<Built> {
    // Mounts are made of what is open where it was opened, and put where nobody else sees them.
    let mut parts = Vec::new();
    for file in &jail.files {
        let part = part(file, jail.user).map_err(|error| named(&file.name, &error))?;
        parts.push((file, part));
    }
    let sockets = directory(&jail.sockets)?;
    let files = directory(&jail.directory)?;
    let size = size(jail, &parts)?;

    sys::enter_jail(jail.has_own_network)?;
    sys::root_is_slave()?;
    sys::mount_memory(&jail.sockets, size, COUNT).map_err(|error| named("its memory", &error))?;
    let root = root(jail)?;
    let inside = |path: &str| root.join(path.trim_start_matches('/'));
    for (path, mount) in [(SOCKETS, sockets), (FILES, files)] {
        make(&inside(path))?;
        mount.put(&inside(path), false).map_err(|error| named(path, &error))?;
    }
    let mut copies = Vec::new();
    for (file, part) in parts {
        let path = root.join(&file.name);
        let is_read_only = !matches!(file.access, JailAccess::Own | JailAccess::Write);
        let put = match part {
            Part::Copy(original) => copy(original, &path).map(|copy| copies.push(copy)),
            Part::Mount(mount) => {
                File::create_new(&path).and_then(|_| mount.put(&path, is_read_only))
            }
        };
        put.map_err(|error| named(&file.name, &error))?;
    }
    let log = log(&inside(LOG), jail.user).map_err(|error| named(LOG, &error))?;
    Ok(Built { log, copies })
}

/// What is to be in the jail of an open file.
fn part(file: &JailFile, user: u32) -> io::Result<Part> {
    let own = sys::duplicate(file.number, FIRST_OWN)?;
    if file.access == JailAccess::Copy {
        // Opened anew, since its place in the file is shared with others.
        return Ok(Part::Copy(File::open(format!("/proc/self/fd/{}", file.number))?));
    }
    let own = File::from(own);
    let mount = Mount::of(&own)?;
    let metadata = own.metadata()?;
    let everybody_may = match file.access {
        JailAccess::Copy | JailAccess::Own => {
            std::os::unix::fs::fchown(&own, Some(user), Some(user))?;
            true
        }
        JailAccess::Read => metadata.mode() & 0o004 != 0,
        JailAccess::Write => metadata.mode() & 0o006 == 0o006,
    };
    if !everybody_may {
        let users = UserMap::new((metadata.uid(), metadata.gid()), user)?;
        mount.map_users(&users).map_err(|error| {
            let why = format!(
                "its file system does not show it as another user's ({error}). Put it on ext4, XFS \
                 or Btrfs with Linux 5.12 or later, or let everybody read it"
            );
            io::Error::new(error.kind(), why)
        })?;
    }
    Ok(Part::Mount(mount))
}

/// A mount of a directory, which is none that a link leads to.
fn directory(path: &Path) -> io::Result<Mount> {
    let opened =
        OpenOptions::new().read(true).custom_flags(sys::O_DIRECTORY | sys::O_NOFOLLOW).open(path);
    opened.and_then(Mount::of).map_err(|error| named(&path.display().to_string(), &error))
}

/// The bytes that the jail may take of memory.
fn size(jail: &Jail, parts: &[(&JailFile, Part)]) -> io::Result<u64> {
    let program = fs::metadata(&jail.program)
        .map_err(|error| named(&jail.program.display().to_string(), &error))?;
    let mut size = SPARE + program.len().next_multiple_of(PAGE);
    for (_, part) in parts {
        if let Part::Copy(original) = part {
            size += original.metadata()?.len().next_multiple_of(PAGE);
        }
    }
    Ok(size)
}

/// Makes the directory that the jailer takes as the root.
fn root(jail: &Jail) -> io::Result<PathBuf> {
    // It names it after the program, wherever links lead to that.
    let program = fs::canonicalize(&jail.program)?;
    let mut root = jail.sockets.join(program.file_name().unwrap_or_default());
    for name in [NAME, "root"] {
        make(&root)?;
        root.push(name);
    }
    make(&root)?;
    Ok(root)
}

fn make(directory: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o711).create(directory)
}

/// A copy in the jail that its VMM can read.
fn copy(mut original: File, path: &Path) -> io::Result<File> {
    let mut copy = File::create_new(path)?;
    io::copy(&mut original, &mut copy)?;
    copy.set_permissions(Permissions::from_mode(0o444))?;
    Ok(copy)
}

/// A pipe with a name, which the VMM writes to.
fn log(path: &Path, user: u32) -> io::Result<File> {
    sys::fifo(path)?;
    std::os::unix::fs::chown(path, Some(user), Some(user))?;
    // Open for writing, too: it does not end when the VMM closes it.
    let log = OpenOptions::new().read(true).write(true).open(path)?;
    sys::set_nonblocking(log.as_fd())?;
    Ok(log)
}

fn named(what: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}
