//! The peers that are Python packages, in an environment of their own under `target/bench`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::rig::Download;
use crate::command::{self, command};
use crate::{paths, term};

/// The packages, in the versions that are measured.
const PACKAGES: &[&str] = &["pooch==1.9.0", "requests==2.32.5", "smolvm==0.0.36"];

/// Fetches the files that its arguments name, as pooch's documentation shows it.
const POOCH: &str = "\
import sys, pooch
pooch.get_logger().setLevel('ERROR')
directory, *rest = sys.argv[1:]
for name, url, digest in zip(rest[0::3], rest[1::3], rest[2::3]):
    pooch.retrieve(url=url, known_hash='sha256:' + digest, fname=name, path=directory)
";

/// Has an image of the two files, as that package's documentation shows it.
const SMOLVM: &str = "\
import sys
from pathlib import Path
from smolvm import ImageManager, ImageSource
directory, _, kernel, kernel_digest, _, rootfs, rootfs_digest = sys.argv[1:]
source = ImageSource(name='bench', kernel_url=kernel, kernel_sha256=kernel_digest,
                     rootfs_url=rootfs, rootfs_sha256=rootfs_digest)
ImageManager(cache_dir=Path(directory), registry={'bench': source}).ensure_image('bench')
";

/// A Python with the peers' packages.
#[derive(Debug, Clone)]
pub(crate) struct Python {
    program: PathBuf,
}

impl Python {
    /// Makes the environment where there is none, and installs what it lacks.
    pub(crate) fn ensure() -> Result<Self> {
        let venv = paths::bench().join("venv");
        let program = venv.join("bin/python3");
        if !program.is_file() {
            command::capture(command("python3").args(["-m", "venv"]).arg(&venv))?;
        }
        let stamp = venv.join("packages");
        let wanted = PACKAGES.join("\n");
        if fs_err::read_to_string(&stamp).ok().as_deref() != Some(&wanted) {
            let mut install = command(&program);
            install.args(["-m", "pip", "install", "--quiet"]).args(PACKAGES);
            term::command(&command::describe(&install));
            command::capture(&mut install)?;
            fs_err::write(&stamp, wanted)?;
        }
        Ok(Self { program })
    }

    pub(crate) fn pooch(&self, files: &[Download], directory: &Path) -> Command {
        self.script(POOCH, files, directory)
    }

    /// For exactly two files, a kernel and a root file system.
    pub(crate) fn smolvm(&self, files: &[Download], directory: &Path) -> Command {
        self.script(SMOLVM, files, directory)
    }

    fn script(&self, text: &str, files: &[Download], directory: &Path) -> Command {
        let mut script = command(&self.program);
        command::without_settings(&mut script);
        script.args(["-c", text]).arg(directory);
        for file in files {
            script.args([&file.name, &file.url, &file.sha256]);
        }
        script
    }
}
