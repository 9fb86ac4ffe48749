//! The init of the image.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::config::Init;
use super::error::BootError;

/// A program of the image that is the first process once the agent has made room for it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ImageInit(PathBuf);

/// Where the kernel looks for one as well. It would take a shell at last, which is none.
const NAMES: &[&str] = &["sbin/init", "etc/init", "bin/init"];

/// The init to start; `None` where the agent is to stay the first process. `root` is the root file
/// system.
pub(super) fn find(root: &Path, wanted: &Init) -> Result<Option<ImageInit>, BootError> {
    match wanted {
        Init::None => Ok(None),
        Init::Auto => {
            let found = NAMES.iter().map(|name| root.join(name)).find(|path| is_program(path));
            Ok(found.map(ImageInit))
        }
        Init::Path(path) if is_program(&root.join(path.strip_prefix("/").unwrap_or(path))) => {
            Ok(Some(ImageInit(path.clone())))
        }
        Init::Path(path) => Err(BootError::NoInit(path.clone())),
    }
}

impl ImageInit {
    /// Becomes the init, with the environment that the kernel gives to the first process.
    pub(super) fn execute(self) -> BootError {
        let mut command = Command::new(&self.0);
        command.env_clear().env("HOME", "/").env("TERM", "linux").current_dir("/");
        // A machine may have no console at all.
        if let Ok([stdin, stdout, stderr]) = console() {
            command.stdin(stdin).stdout(stdout).stderr(stderr);
        }
        BootError::Init(self.0, command.exec())
    }
}

fn console() -> io::Result<[File; 3]> {
    let console = File::options().read(true).write(true).open("/dev/console")?;
    Ok([console.try_clone()?, console.try_clone()?, console])
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path)
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root_with(programs: &[(&str, u32)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, mode) in programs {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
        }
        root
    }

    #[test]
    fn the_first_of_the_usual_names_that_can_be_executed_is_taken() {
        let root = root_with(&[("sbin/init", 0o644), ("etc/init/x", 0o755), ("bin/init", 0o755)]);
        let found = find(root.path(), &Init::Auto).unwrap();
        assert_eq!(found, Some(ImageInit(root.path().join("bin/init"))));
    }

    #[test]
    fn a_shell_is_no_init() {
        let root = root_with(&[("bin/sh", 0o755)]);
        assert_eq!(find(root.path(), &Init::Auto).unwrap(), None);
    }

    #[test]
    fn the_one_that_is_asked_for_must_be_there() {
        let root = root_with(&[("sbin/init", 0o755), ("opt/start", 0o755)]);
        assert_eq!(find(root.path(), &Init::None).unwrap(), None);
        let start = PathBuf::from("/opt/start");
        let found = find(root.path(), &Init::Path(start.clone())).unwrap();
        assert_eq!(found, Some(ImageInit(start)));
        let error = find(root.path(), &Init::Path("/opt/absent".into())).unwrap_err();
        assert!(error.to_string().contains("/opt/absent"), "{error}");
    }
}
