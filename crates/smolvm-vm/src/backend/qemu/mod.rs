//! QEMU: finding it, and telling it what to run.

mod arguments;
#[cfg(test)]
mod boot_tests;

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use rustix::fs::Access;

use super::version::Version;
use crate::kernel::Architecture;

pub(crate) use arguments::arguments;

/// A QEMU of this host that is new enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Qemu {
    pub(crate) program: PathBuf,
    pub(crate) version: Version,
}

/// Why there is no QEMU to use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QemuError {
    /// It is not there.
    #[error(
        "QEMU is missing: there is no {program}. Install the package {package} (Debian, Ubuntu: apt install {package}), or name the program in {variable}"
    )]
    Missing {
        /// The environment variable that names another one.
        variable: &'static str,
        /// The program that was looked for.
        program: String,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// It does not say what version it is of.
    #[error("{} does not tell its version: {reason}. Reinstall it, or name another one in {variable}", program.display())]
    Broken {
        /// The environment variable that names another one.
        variable: &'static str,
        /// The program.
        program: PathBuf,
        /// What happened instead.
        reason: String,
    },
    /// It is older than what is needed.
    #[error("{} is QEMU {}.{}, at least 7.2 is needed. Upgrade it, or name another one in {variable}", program.display(), found.0, found.1)]
    TooOld {
        /// The environment variable that names another one.
        variable: &'static str,
        /// The program.
        program: PathBuf,
        /// Its version, major and minor.
        found: (u32, u32),
    },
}

/// The environment variable that names the program for guests of the host's architecture.
const PROGRAM: &str = "SMOLVM_QEMU";

/// The first version with network devices on Unix sockets (`-netdev stream`).
const OLDEST: Version = Version(7, 2);

impl Qemu {
    /// The QEMU that `$SMOLVM_QEMU` names (for guests of another architecture than the host's,
    /// `$SMOLVM_QEMU_AARCH64` or `$SMOLVM_QEMU_X86_64`), else the one in `PATH`.
    pub(crate) fn find(architecture: Architecture) -> Result<Self, QemuError> {
        let (name, package, of_foreign) = match architecture {
            Architecture::X86_64 => ("qemu-system-x86_64", "qemu-system-x86", "SMOLVM_QEMU_X86_64"),
            Architecture::Aarch64 => {
                ("qemu-system-aarch64", "qemu-system-arm", "SMOLVM_QEMU_AARCH64")
            }
        };
        let is_own = Architecture::of_host().is_none_or(|host| host == architecture);
        let variable = if is_own { PROGRAM } else { of_foreign };
        let chosen = env::var_os(variable).filter(|program| !program.is_empty());
        let program = match &chosen {
            Some(program) => in_path(Path::new(program)),
            None => in_path(Path::new(name)),
        };
        let program = program.ok_or_else(|| {
            let wanted = chosen.unwrap_or_else(|| OsString::from(name));
            let program = wanted.to_string_lossy().into_owned();
            QemuError::Missing { variable, program, package }
        })?;
        let version = Version::of(&program, "QEMU emulator version ")
            .map_err(|reason| QemuError::Broken { variable, program: program.clone(), reason })?;
        if version < OLDEST {
            return Err(QemuError::TooOld { variable, program, found: (version.0, version.1) });
        }
        Ok(Self { program, version })
    }
}

/// The first program of this name in `PATH`, or the path itself; absolute, for it may be executed
/// from another working directory.
pub(crate) fn in_path(program: &Path) -> Option<PathBuf> {
    let is_program =
        |path: &PathBuf| path.is_file() && rustix::fs::access(path, Access::EXEC_OK).is_ok();
    let found = if program.components().count() > 1 {
        Some(program.to_owned()).filter(is_program)
    } else {
        let path = env::var_os("PATH")?;
        env::split_paths(&path).map(|dir| dir.join(program)).find(is_program)
    };
    std::path::absolute(found?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_as_a_shell_finds_them() {
        assert!(in_path(Path::new("sh")).is_some());
        assert_eq!(in_path(Path::new("/bin/sh")), Some("/bin/sh".into()));
        assert_eq!(in_path(Path::new("no-such-program")), None);
        assert_eq!(in_path(Path::new("/no/such/program")), None);
        assert_eq!(in_path(Path::new("/etc/passwd")), None);
        assert_eq!(in_path(Path::new("/etc")), None);
    }
}
