//! What a Firecracker is started with: in a jail, or as whoever starts it.

use std::ffi::OsString;
use std::fs::DirBuilder;
use std::os::fd::RawFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use smolvm_supervisor::control::Setting;
use smolvm_supervisor::jail::{FILES, Jail, JailAccess, JailFile, LOG, SOCKETS};

use super::{Firecracker, FirecrackerError};
use crate::assets::{KERNEL_FD, ROOTFS_FD};
use crate::boot::tell_once;
use crate::disk::BaseUse;
use crate::endowment::{DISK_FD, Endowment, INITRD_FD, OPEN_FILES};
use crate::places::VmDirs;
use crate::privileges;
use crate::record::DiskRecord;
use crate::supervisor::Program;

/// Files in a jail, by the numbers of their descriptors outside.
const NAMES: [(RawFd, &str); 4] =
    [(KERNEL_FD, "kernel"), (ROOTFS_FD, "base"), (DISK_FD, "disk"), (INITRD_FD, "initrd")];

static NOTICE: AtomicBool = AtomicBool::new(false);
const AS_ROOT: &str = "Firecracker runs as root, confined by nothing but its seccomp filters: \
                       SMOLVM_JAILER is none";

impl Firecracker {
    /// What the supervisor is to start.
    pub(crate) fn program(&self, endowment: &Endowment<'_>) -> Result<Program, FirecrackerError> {
        let dirs = endowment.dirs;
        // What it makes by itself lies in these; they are another user's in a jail.
        for directory in [dirs.vmm_sockets(), dirs.vmm_files()] {
            make(&directory)?;
        }
        let (line, settings) = if self.jailer.is_some() {
            let mut line = vec![OsString::from("/proc/self/exe")];
            line.extend(self.jail(endowment)?.encode());
            let settings = endowment.files().into_iter().chain([Setting::Init]);
            (line, settings.collect())
        } else {
            let mut line = vec![self.program.clone().into_os_string()];
            line.extend(["--id", "smolvm"].map(OsString::from));
            line.extend(self.arguments(dirs));
            if rustix::process::geteuid().is_root() {
                tell_once(&NOTICE, Some(AS_ROOT));
            }
            (line, [endowment.files(), Endowment::bounds(longest_file(endowment))].concat())
        };
        let program = Program::vmm_with_vsock(line, dirs.vsock_socket());
        let settings = settings.into_iter().chain(endowment.place());
        Ok(settings.fold(program, Program::with))
    }

    fn jail(&self, endowment: &Endowment<'_>) -> Result<Jail, FirecrackerError> {
        let (dirs, record) = (endowment.dirs, endowment.record);
        let no_jail = |why: String| FirecrackerError::NoJail { why };
        let user = privileges::number(&dirs.runtime).map_err(no_jail)?;
        let user = user.ok_or_else(|| no_jail("only root can make one".to_owned()))?;
        let disk = match record.disk {
            DiskRecord::Isolated(_) => JailAccess::Own,
            DiskRecord::Shared => JailAccess::Write,
        };
        let mut files = vec![(DISK_FD, disk)];
        if endowment.has_kernel {
            files.push((KERNEL_FD, JailAccess::Copy));
        }
        if endowment.has_initrd {
            files.push((INITRD_FD, JailAccess::Copy));
        }
        if record.disk.base_use() == BaseUse::ReadOnlyDisk {
            files.push((ROOTFS_FD, JailAccess::Read));
        }
        let file = |(number, access)| {
            let name = name(number)?.to_owned();
            Some(JailFile { number, name, access })
        };
        Ok(Jail {
            user,
            sockets: dirs.vmm_sockets(),
            directory: dirs.vmm_files(),
            jailer: self.jailer.as_ref().map(|jailer| jailer.program.clone()).unwrap_or_default(),
            program: self.program.clone(),
            has_own_network: endowment.namespace().is_none(),
            file_size: longest_file(endowment),
            open_files: OPEN_FILES,
            files: files.into_iter().filter_map(file).collect(),
            arguments: self.arguments(dirs),
        })
    }

    /// What it is started with. The guest's console is its standard output; what it has to say of
    /// itself goes elsewhere.
    fn arguments(&self, dirs: &VmDirs) -> Vec<OsString> {
        let log = if self.jailer.is_some() { LOG } else { "/proc/self/fd/2" };
        let mut line = vec![OsString::from("--api-sock")];
        line.push(self.socket(&dirs.api_socket()).into_os_string());
        line.extend(["--level", "Warn", "--log-path", log].map(OsString::from));
        line
    }

    /// The path by which it has the file of a descriptor.
    pub(super) fn path_of(&self, file: RawFd) -> PathBuf {
        match name(file).filter(|_| self.jailer.is_some()) {
            Some(name) => Path::new("/").join(name),
            None => format!("/proc/self/fd/{file}").into(),
        }
    }

    /// The path by which it has one of its sockets.
    pub(super) fn socket(&self, socket: &Path) -> PathBuf {
        self.inside(SOCKETS, socket)
    }

    /// The path by which it has a file of [`VmDirs::vmm_files`].
    pub(crate) fn file(&self, file: &Path) -> PathBuf {
        self.inside(FILES, file)
    }

    fn inside(&self, directory: &str, path: &Path) -> PathBuf {
        match path.file_name().filter(|_| self.jailer.is_some()) {
            Some(name) => Path::new(directory).join(name),
            None => path.to_owned(),
        }
    }

    /// Has a jailed Firecracker, which has all its sockets, make no more files where this process
    /// looks for them. Nothing of the guest's has run yet.
    pub(super) fn seal(&self, dirs: &VmDirs) -> Result<(), FirecrackerError> {
        if self.jailer.is_none() {
            return Ok(());
        }
        let directory = dirs.vmm_sockets();
        std::os::unix::fs::chown(&directory, Some(0), Some(0))
            .and_then(|()| {
                let mode = std::os::unix::fs::PermissionsExt::from_mode(0o711);
                fs_err::set_permissions(&directory, mode)
            })
            .map_err(|error| failed("close", &directory, &error))
    }
}

/// The most bytes that a file may have which it writes: the guest's disk, or its memory.
fn longest_file(endowment: &Endowment<'_>) -> u64 {
    endowment.longest_disk().max(u64::from(endowment.record.mem_size_mib) << 20)
}

fn name(file: RawFd) -> Option<&'static str> {
    NAMES.iter().find(|(number, _)| *number == file).map(|(_, name)| *name)
}

/// Makes a directory that this user alone writes to.
pub(super) fn make(directory: &Path) -> Result<(), FirecrackerError> {
    match DirBuilder::new().mode(0o711).create(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(failed("make", directory, &error))
        }
        _ => Ok(()),
    }
}

fn failed(what: &str, directory: &Path, error: &std::io::Error) -> FirecrackerError {
    let reason = format!("cannot {what} the directory {}: {error}", directory.display());
    FirecrackerError::Api { reason }
}

#[cfg(test)]
mod tests {
    use super::super::Jailer;
    use super::*;
    use crate::backend::Version;

    #[test]
    fn in_a_jail_paths_are_short_and_the_same_for_all() {
        let dirs =
            VmDirs { state: "/root/.smolvm/vms/vm".into(), runtime: "/run/smolvm/ab".into() };
        let free = Firecracker {
            program: "/opt/firecracker".into(),
            version: Version(1, 12),
            jailer: None,
        };
        assert_eq!(free.path_of(DISK_FD), Path::new("/proc/self/fd/12"));
        assert_eq!(free.socket(&dirs.api_socket()), dirs.api_socket());
        let jailer = Some(Jailer { program: "/opt/jailer".into() });
        let inside = Firecracker { jailer, ..free };
        assert_eq!(inside.path_of(DISK_FD), Path::new("/disk"));
        assert_eq!(inside.socket(&dirs.api_socket()), Path::new("/run/api.sock"));
        assert_eq!(inside.file(&dirs.vmm_files().join("memory")), Path::new("/files/memory"));
        assert!(inside.arguments(&dirs).contains(&"/vmm.log".into()));
    }
}
