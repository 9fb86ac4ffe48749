//! The agent in a VM's own disk, for kernels that unpack no initrd: put there by debugfs, without
//! the disk being mounted.

use std::fs::Permissions;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use super::error::DiskError;
use super::program;
use crate::kernel::read_up_to;

const PROGRAM: &str = "debugfs";

/// The mark in an ext4 superblock (`s_feature_incompat`) that the journal is to be replayed.
const RECOVER: u8 = 4;
const INCOMPATIBLE: u64 = 1024 + 0x60;

/// Puts the agent and what it is told into the ext4 file system of `disk`, a file of the VM's own,
/// as `/smolvm/agent` and `/smolvm/boot`.
pub(crate) fn add_agent(disk: &Path, agent: &[u8], boot_file: &str) -> Result<(), DiskError> {
    let refused = |said: String| {
        let (program, path) = (PROGRAM, disk.to_owned());
        DiskError::Program { program, path, said }
    };
    let file = fs_err::File::open(disk).map_err(|error| DiskError::io("open", disk, error))?;
    let features = read_up_to(file.file(), INCOMPATIBLE, 1);
    let features = features.map_err(|error| DiskError::io("read", disk, error))?;
    if features.first().is_some_and(|features| features & RECOVER != 0) {
        let said = "its file system was not unmounted cleanly. Have it repaired: e2fsck -p";
        return Err(refused(said.to_owned()));
    }

    let directory = disk.parent().unwrap_or(Path::new("/"));
    let written = |error| DiskError::write(disk, agent.len() as u64, error);
    // The names that debugfs reads have no spaces in them: they are relative.
    let place =
        tempfile::Builder::new().prefix(".agent-").tempdir_in(directory).map_err(written)?;
    let put = |name: &str, bytes: &[u8], mode| -> io::Result<()> {
        let mut file = fs_err::File::create(place.path().join(name))?;
        file.write_all(bytes)?;
        file.set_permissions(Permissions::from_mode(mode))
    };
    let commands = b"mkdir /smolvm\nwrite agent /smolvm/agent\nwrite boot /smolvm/boot\n";
    let put = put("agent", agent, 0o755)
        .and_then(|()| put("boot", boot_file.as_bytes(), 0o600))
        .and_then(|()| put("commands", commands, 0o600));
    put.map_err(written)?;

    let debugfs = |arguments: &[&str]| {
        let output = Command::new(program::find(PROGRAM))
            .args(arguments)
            .arg(disk)
            .current_dir(place.path())
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .output();
        match output {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(refused("the program is missing; install the package e2fsprogs".to_owned()))
            }
            output => output.map_err(|error| DiskError::io("start", Path::new(PROGRAM), error)),
        }
    };
    let output = debugfs(&["-w", "-f", "commands"])?;
    // It succeeds whatever became of its commands; what is there afterwards tells.
    debugfs(&["-R", "dump /smolvm/agent there"])?;
    if fs_err::read(place.path().join("there")).is_ok_and(|there| there == agent) {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let mut said: Vec<_> = said.lines().skip(1).map(str::trim).collect();
    said.retain(|line| !line.is_empty());
    Err(refused(format!(
        "the agent cannot be put into it, which takes an ext4 file system with some 2 MiB left: {}",
        said.join("; ")
    )))
}

#[cfg(test)]
mod tests {
    use super::super::scratch;
    use super::*;

    #[test]
    fn the_agent_is_put_into_a_file_system() {
        let temp = tempfile::Builder::new().prefix("a directory ").tempdir().unwrap();
        scratch::make(temp.path(), 0).unwrap();
        let disk = temp.path().join("disk.scratch");
        add_agent(&disk, b"the agent", "root=/dev/vda\n").unwrap();
        let read = |path: &str| {
            let mut debugfs = Command::new(program::find(PROGRAM));
            debugfs.args(["-R", &format!("cat {path}")]).arg(&disk);
            debugfs.output().unwrap().stdout
        };
        assert_eq!(read("/smolvm/agent"), b"the agent");
        assert_eq!(read("/smolvm/boot"), b"root=/dev/vda\n");
        let mut e2fsck = Command::new(program::find("e2fsck"));
        assert!(e2fsck.args(["-fn"]).arg(&disk).output().unwrap().status.success());
        assert_eq!(fs_err::read_dir(temp.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_it_cannot_be_put_into_is_refused_with_the_reason() {
        let temp = tempfile::tempdir().unwrap();
        let disk = temp.path().join("disk.raw");
        fs_err::write(&disk, vec![0; 1 << 20]).unwrap();
        let error = add_agent(&disk, b"the agent", "").unwrap_err().to_string();
        assert!(error.contains("disk.raw: the agent cannot be put into it"), "{error}");
        assert!(error.contains("Bad magic number"), "{error}");

        let mut bytes = vec![0; 1 << 20];
        bytes[1024 + 0x60] = RECOVER;
        fs_err::write(&disk, bytes).unwrap();
        let error = add_agent(&disk, b"the agent", "").unwrap_err().to_string();
        assert!(error.contains("e2fsck -p"), "{error}");
    }
}
