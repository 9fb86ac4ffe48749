//! [`Jailer`]: Firecracker's own `jailer`, by which root starts it.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use rustix::thread::CapabilitySet;

use super::super::qemu::in_path;
use super::super::version::Version;
use super::FirecrackerError;
use crate::privileges;

/// A jailer of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Jailer {
    pub(crate) program: PathBuf,
}

/// The environment variable that names the program.
pub(super) const JAILER: &str = "SMOLVM_JAILER";
/// What it holds where root wants none.
const NONE: &str = "none";

/// What making a jail takes, as the kernel names it.
const NEEDED: [(CapabilitySet, &str); 5] = [
    (CapabilitySet::SYS_ADMIN, "SYS_ADMIN"),
    (CapabilitySet::MKNOD, "MKNOD"),
    (CapabilitySet::CHOWN, "CHOWN"),
    (CapabilitySet::SETUID, "SETUID"),
    (CapabilitySet::SETGID, "SETGID"),
];

impl Jailer {
    /// The one for a Firecracker: that which `$SMOLVM_JAILER` names, else the one beside it, else
    /// the one in `PATH`. `None` where it runs as whoever starts it: as somebody else than root, or
    /// as root who wants it so.
    pub(super) fn find(
        firecracker: &Path,
        version: Version,
    ) -> Result<Option<Self>, FirecrackerError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let chosen = env::var_os(JAILER).filter(|program| !program.is_empty());
        if chosen.as_ref().is_some_and(|chosen| chosen == NONE) {
            return Ok(None);
        }
        let found = match &chosen {
            Some(program) => in_path(Path::new(program)),
            None => in_path(&firecracker.with_file_name("jailer"))
                .or_else(|| in_path(Path::new("jailer"))),
        };
        let program = found.ok_or_else(|| FirecrackerError::NoJailer {
            program: chosen.unwrap_or_else(|| OsString::from("jailer")).to_string_lossy().into(),
        })?;
        let no_jail = |why: String| FirecrackerError::NoJail { why };
        let said = Version::of(&program, "Jailer v")
            .map_err(|reason| no_jail(format!("{}: {reason}", program.display())))?;
        if said != version {
            let program = program.display();
            return Err(no_jail(format!("{program} is of version {said}, Firecracker {version}")));
        }
        if let Some(why) = obstacle() {
            return Err(no_jail(why));
        }
        Ok(Some(Self { program }))
    }
}

/// What this root lacks for making a jail.
fn obstacle() -> Option<String> {
    let has = rustix::thread::capabilities(None)
        .map_or(CapabilitySet::empty(), |capabilities| capabilities.effective);
    let lacking: Vec<_> =
        NEEDED.iter().filter(|(needed, _)| !has.contains(*needed)).map(|(_, name)| *name).collect();
    if !lacking.is_empty() {
        return Some(format!("this root lacks the capabilities {}", lacking.join(", ")));
    }
    privileges::number(Path::new("")).err()
}
