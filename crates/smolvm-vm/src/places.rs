//! Where the files of virtual machines lie: [`Places`] for all of a user's, [`VmDirs`] for one.
//!
//! ```text
//! <vms>/.lock                 held while a machine's directory is made or removed
//! <vms>/.kernels/<digest>     kernels in the form that their VMM boots
//! <vms>/<id>/config.json      what the machine is (`record`); no values of the environment
//! <vms>/<id>/state            how it does: written by its supervisor
//! <vms>/<id>/lock             held by its supervisor, as long as that lives
//! <vms>/<id>/console.log      the end of what the guest's console said; .1: what was before
//! <vms>/<id>/vmm.log          what the VMM said
//! <vms>/<id>/paused           what stands still, and for whom (`pause`)
//! <vms>/<id>/initrd.img       what the machine boots with
//! <vms>/<id>/disk.*           its own disk
//! <vms>/<id>/vmm/             files that Firecracker opens while it runs (`/files` in its jail)
//! <runtime>/<short>/*.sock    sockets, whose paths must be short
//! <runtime>/<short>/vmm/      those that Firecracker makes (`/run` in its jail)
//! <runtime>/boot-slots/<n>    held while a machine boots
//! /run/smolvm/tap/<ns>/<n>    held while a machine has that slot's addresses (network `tap`), in
//!                             this network namespace of the host
//! ```

use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::error::VmError;
use crate::id::VmId;

/// The directories of all machines of a user.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    vms: PathBuf,
    runtime: PathBuf,
}

/// The directories of one machine.
#[derive(Debug, Clone)]
pub(crate) struct VmDirs {
    /// What stays as long as the machine is there.
    pub(crate) state: PathBuf,
    /// What is there while it runs. A short path.
    pub(crate) runtime: PathBuf,
}

impl Places {
    /// The directories, made where they are not there: the machines in `vms`, by default
    /// `~/.smolvm/vms`.
    pub(crate) fn make(vms: Option<&Path>) -> Result<Self, VmError> {
        let vms = match vms.filter(|path| !path.as_os_str().is_empty()) {
            Some(path) => path.to_owned(),
            None => home::home_dir()
                .filter(|home| home.is_absolute())
                .ok_or(VmError::Home)?
                .join(".smolvm/vms"),
        };
        let vms = std::path::absolute(&vms).map_err(|error| VmError::io(&vms, "find", error))?;
        make_private(&vms)?;
        let runtime = runtime_base();
        make_private(&runtime)?;
        check_own(&runtime)?;
        Ok(Self { vms, runtime })
    }

    /// The directory that has one for each machine.
    pub(crate) fn vms(&self) -> &Path {
        &self.vms
    }

    /// The directories of a machine, which need not exist.
    pub(crate) fn of(&self, id: &VmId) -> VmDirs {
        let state = self.vms.join(id.as_str());
        // The same for every program, whatever the id's length; no two machines share it.
        let digest = Sha256::digest(state.as_os_str().as_encoded_bytes());
        let number =
            digest.iter().take(6).fold(0_u64, |number, &byte| number << 8 | u64::from(byte));
        VmDirs { state, runtime: self.runtime.join(format!("{number:012x}")) }
    }
}

impl VmDirs {
    pub(crate) fn config(&self) -> PathBuf {
        self.state.join("config.json")
    }

    pub(crate) fn console(&self) -> PathBuf {
        self.state.join("console.log")
    }

    pub(crate) fn vmm_log(&self) -> PathBuf {
        self.state.join("vmm.log")
    }

    pub(crate) fn paused(&self) -> PathBuf {
        self.state.join(smolvm_supervisor::state::PAUSED)
    }

    pub(crate) fn initrd(&self) -> PathBuf {
        self.state.join("initrd.img")
    }

    pub(crate) fn agent_socket(&self) -> PathBuf {
        self.runtime.join("agent.sock")
    }

    /// The directory of the locks that bound how many of this user's machines boot at once.
    pub(crate) fn boot_slots(&self) -> PathBuf {
        self.runtime.with_file_name("boot-slots")
    }

    /// The directory of kernels in the form that their VMM boots.
    pub(crate) fn kernels(&self) -> PathBuf {
        self.state.with_file_name(".kernels")
    }

    /// The directory of the sockets that Firecracker makes by itself, while it runs.
    pub(crate) fn vmm_sockets(&self) -> PathBuf {
        self.runtime.join("vmm")
    }

    /// The directory of files that Firecracker is told of while it runs. In a jail its user can
    /// make none there, and open those that are given to it.
    pub(crate) fn vmm_files(&self) -> PathBuf {
        self.state.join("vmm")
    }

    /// Where Firecracker listens for what it is told.
    pub(crate) fn api_socket(&self) -> PathBuf {
        self.vmm_sockets().join("api.sock")
    }

    /// Where Firecracker listens for what is to reach the guest's vsock.
    pub(crate) fn vsock_socket(&self) -> PathBuf {
        self.vmm_sockets().join("vsock.sock")
    }

    pub(crate) fn qmp_socket(&self) -> PathBuf {
        self.runtime.join("qmp.sock")
    }
}

/// A directory of this user's alone, that is gone with the session or the boot, where there is
/// one: its path is short enough for the 108 bytes that a socket's path may have (unix(7)).
fn runtime_base() -> PathBuf {
    let user = rustix::process::geteuid();
    let session = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let session = session.filter(|path| {
        path.is_absolute() && path.as_os_str().len() <= 48 && check_own(path).is_ok()
    });
    match session {
        Some(session) => session.join("smolvm"),
        None if user.is_root() => PathBuf::from("/run/smolvm"),
        None => PathBuf::from(format!("/tmp/smolvm-{}", user.as_raw())),
    }
}

fn make_private(path: &Path) -> Result<(), VmError> {
    let mut builder = DirBuilder::new();
    builder.mode(0o700).recursive(true);
    builder.create(path).map_err(|error| VmError::io(path, "create the directory", error))
}

/// In a directory that everybody may write to, another user may have been first.
fn check_own(path: &Path) -> Result<(), VmError> {
    let metadata =
        fs_err::symlink_metadata(path).map_err(|error| VmError::io(path, "look at", error))?;
    if metadata.is_dir() && metadata.uid() == rustix::process::geteuid().as_raw() {
        Ok(())
    } else {
        Err(VmError::ForeignDirectory { path: path.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_have_short_paths_whatever_the_id() {
        let temp = tempfile::tempdir().unwrap();
        let deep = temp.path().join("d".repeat(200));
        let places = Places::make(Some(&deep)).unwrap();
        let (long, short) = ("x".repeat(64).parse().unwrap(), "x".parse().unwrap());
        let (long, short) = (places.of(&long), places.of(&short));
        for socket in [long.agent_socket(), long.api_socket(), long.vsock_socket()] {
            assert!(socket.as_os_str().len() < 100, "{socket:?}");
        }
        assert_ne!(long.runtime, short.runtime);
        assert_eq!(long.state.parent(), Some(deep.as_path()));
    }
}
