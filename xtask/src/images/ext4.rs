//! A directory tree as an ext4 file system, the same bytes every time.

use std::fmt::Write as _;
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use super::SOURCE_DATE_EPOCH;
use crate::command::{self, command};

/// Who owns the files of the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owners {
    /// Root, whoever owns the tree here.
    Root,
    /// The same as in the tree.
    Kept,
}

/// Writes the files in `tree` into a new file system of `size` bytes.
///
/// `uuid` names the file system and seeds the hashes in its directories.
pub(super) fn make(path: &Path, size: u64, uuid: &str, tree: &Path, owners: Owners) -> Result<()> {
    let config = tempfile::NamedTempFile::new()?;
    fs_err::write(config.path(), include_str!("mke2fs.conf"))?;
    File::create(path)
        .and_then(|file| file.set_len(size))
        .with_context(|| format!("cannot make {}", path.display()))?;

    let mut mkfs = at_epoch("mkfs.ext4");
    mkfs.env("MKE2FS_CONFIG", config.path()).args(["-q", "-F", "-m", "0", "-U", uuid]);
    // Left to the first mount, some tables would be what the host's holes are.
    let options = format!("hash_seed={uuid},root_owner=0:0,lazy_itable_init=0,nodiscard");
    mkfs.args(["-E", &options]).arg("-d").args([tree, path]);
    command::capture(&mut mkfs)?;
    normalise_inodes(path, owners)
}

/// What decides, besides its arguments, what [`make`] writes.
pub(super) fn maker_version() -> Result<Vec<u8>> {
    let mut mkfs = command("mkfs.ext4");
    let output = mkfs.arg("-V").output();
    let output = output.context("cannot start mkfs.ext4; `cargo xtask setup` installs it")?;
    Ok(output.stderr)
}

/// Overwrites what the host's file system knew of the tree: when its files were
/// copied there and, if wanted, by whom.
fn normalise_inodes(path: &Path, owners: Owners) -> Result<()> {
    const ROOT: u64 = 2;

    let summary = command::capture(command("dumpe2fs").arg("-h").arg(path))?;
    let count = |key: &str| -> Result<u64> {
        let value = summary.lines().find_map(|line| line.strip_prefix(key));
        let value = value.with_context(|| format!("dumpe2fs does not tell `{key}`"))?;
        Ok(value.trim().parse()?)
    };
    let first = count("First inode:")?;
    let last = count("Inode count:")? - count("Free inodes:")?;

    // A new file system has its inodes one after the other.
    let mut script = String::new();
    for inode in std::iter::once(ROOT).chain(first..=last) {
        for field in ["atime", "ctime", "mtime"] {
            let _ = writeln!(script, "set_inode_field <{inode}> {field} @{SOURCE_DATE_EPOCH}");
            let _ = writeln!(script, "set_inode_field <{inode}> {field}_extra 0");
        }
        if owners == Owners::Root {
            for field in ["uid", "gid"] {
                let _ = writeln!(script, "set_inode_field <{inode}> {field} 0");
            }
        }
    }
    let file = tempfile::NamedTempFile::new()?;
    fs_err::write(file.path(), script)?;
    let mut debugfs = at_epoch("debugfs");
    debugfs.args(["-w", "-f"]).args([file.path(), path]);
    let output = debugfs.stdout(Stdio::null()).output()?;
    // It reports errors, after a line with its version, and exits with 0.
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() || said.lines().count() > 1 {
        bail!("`{}` failed: {}", command::describe(&debugfs), said.trim());
    }
    Ok(())
}

fn at_epoch(program: &str) -> Command {
    let mut command = command(program);
    let epoch = SOURCE_DATE_EPOCH.to_string();
    command.env("E2FSPROGS_FAKE_TIME", &epoch).env("SOURCE_DATE_EPOCH", epoch);
    command
}
