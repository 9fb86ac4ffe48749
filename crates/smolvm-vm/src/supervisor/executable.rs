//! The supervisor as something that can be executed: in memory, else as a file for a moment.

use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::Duration;

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;
use smolvm_supervisor::PROGRAM;

/// Starts the supervisor. `command` makes the command that runs the program at a path; `directory`
/// is where the program is written to for a moment on a host that executes nothing from memory.
pub(crate) fn start(
    directory: &Path,
    command: impl Fn(&Path) -> io::Result<Command>,
) -> io::Result<Child> {
    let from_memory = in_memory().and_then(|memory| {
        command(&PathBuf::from(format!("/proc/self/fd/{}", memory.as_raw_fd())))?.spawn()
    });
    match from_memory {
        Ok(child) => Ok(child),
        // For example `sysctl vm.memfd_noexec=2`, or no `/proc`.
        Err(refusal) => {
            log::debug!("cannot run the supervisor from memory: {refusal}");
            from_file(directory, command)
        }
    }
}

/// A file in memory that holds the program and can no longer be changed.
fn in_memory() -> io::Result<std::fs::File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let name = "smolvm-supervisor";
    // Linux before 6.3 does not know the flag; later ones may demand it.
    let memory = match rustix::fs::memfd_create(name, flags | MemfdFlags::EXEC) {
        Err(Errno::INVAL) => rustix::fs::memfd_create(name, flags)?,
        memory => memory?,
    };
    let mut memory = std::fs::File::from(memory);
    memory.write_all(PROGRAM)?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(&memory, seals)?;
    Ok(memory)
}

fn from_file(
    directory: &Path,
    command: impl Fn(&Path) -> io::Result<Command>,
) -> io::Result<Child> {
    let mut file = tempfile::Builder::new()
        .prefix(".supervisor-")
        .permissions(std::fs::Permissions::from_mode(0o700))
        .tempfile_in(directory)?;
    file.write_all(PROGRAM)?;
    // A file that is open for writing is not executed.
    let path = file.into_temp_path();
    for _ in 0..100 {
        match command(&path)?.spawn() {
            // A child that another thread has just forked holds it open until its own exec.
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => {
                thread::sleep(Duration::from_millis(5));
            }
            started => return started,
        }
    }
    Err(io::ErrorKind::ExecutableFileBusy.into())
}
