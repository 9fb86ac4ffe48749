//! A root file system with more in it: for a machine that is to find its files there when it boots,
//! which takes a second where copies into a machine take a minute.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A copy of an ext4 file system, made larger, with files that it is still to get.
#[derive(Debug)]
pub struct Furnished {
    disk: PathBuf,
    script: String,
}

impl Furnished {
    /// Copies the file system to `disk` and makes it as large as `size`, such as `2G`.
    pub fn new(rootfs: &Path, disk: &Path, size: &str) -> Self {
        fs_err::copy(rootfs, disk).unwrap();
        good(Command::new("resize2fs").arg("-f").arg(disk).arg(size));
        Self { disk: disk.to_owned(), script: String::new() }
    }

    /// Makes a directory in it.
    pub fn directory(&mut self, inside: &str) {
        let _ = writeln!(self.script, "mkdir {inside}");
    }

    /// Writes a file to it that everybody may execute, in place of one that is there.
    pub fn file(&mut self, from: &Path, inside: &str) {
        let from = from.display();
        let _ =
            writeln!(self.script, "rm {inside}\nwrite {from} {inside}\nsif {inside} mode 0100755");
    }

    /// Writes a program to it, without what only debuggers read.
    pub fn program(&mut self, from: &Path, inside: &str) {
        let stripped = self.disk.with_extension(format!("{}.stripped", self.script.len()));
        good(Command::new("strip").arg("-o").args([&stripped, from]));
        self.file(&stripped, inside);
    }

    /// Does all that. A file that is missing is seen when it is used.
    pub fn finish(self) -> PathBuf {
        let script = self.disk.with_extension("script");
        fs_err::write(&script, self.script).unwrap();
        good(Command::new("debugfs").arg("-w").arg("-f").args([&script, &self.disk]));
        self.disk
    }
}

/// Runs a program of this host, which has to succeed.
fn good(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
}
