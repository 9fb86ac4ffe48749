//! The initrd that a guest starts with: the image's own, the agent, and the drivers that it needs.

mod ext4;
pub(crate) mod modules;
mod newc;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use modules::Modules;
use newc::Archive;

use crate::kernel::{Fields, PositionedReader, read_up_to};

/// An initrd with the agent, to be started with `rdinit=/smolvm/agent`.
///
/// It has these files, beside those of the image's own initrd, which they replace where both have
/// one:
///
/// - `/smolvm/agent`: the agent;
/// - `/smolvm/boot`: what the agent is told;
/// - `/smolvm/modules/<release>/`: drivers, with `modules.dep` and `modules.builtin` of them;
/// - `/smolvm/root`: an empty directory to mount the root file system on;
/// - `/dev/console` and `/dev/null`, and empty `/proc` and `/sys`.
#[derive(Debug)]
pub(crate) struct Initrd<'a> {
    agent: &'a [u8],
    boot_file: String,
    modules: Option<Modules>,
    /// The image's own initrd and its path.
    own: Option<(&'a File, &'a Path)>,
}

/// Why an initrd could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InitrdError {
    /// The image's own initrd is something that the kernel would not unpack.
    #[error(
        "{} is not an initrd: it is neither a cpio archive (newc) nor compressed in a way that \
         kernels know. Check what the image gives as its initrd, or leave it out", path.display()
    )]
    NotAnInitrd {
        /// The file.
        path: PathBuf,
    },
    /// The image's own initrd cannot be read.
    #[error("cannot read the initrd {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("cannot write the initrd {}: {source}. Is there space left?", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What the kernel takes an initrd by: an archive, or one of the formats in its
/// `lib/decompress.c`.
const MAGICS: &[&[u8]] = &[
    b"070701",
    b"070702",
    b"\x1f\x8b",
    b"\x1f\x9e",
    b"BZh",
    b"\x5d\0",
    b"\xfd7zXZ\0",
    b"\x89LZO\0\r\n\x1a\n",
    b"\x02\x21\x4c\x18",
    b"\x28\xb5\x2f\xfd",
];

/// Archives begin at multiples of this.
const ALIGNMENT: u64 = 4;

impl<'a> Initrd<'a> {
    /// An initrd with the agent: the bytes of a static program.
    pub(crate) fn new(agent: &'a [u8]) -> Self {
        Self { agent, boot_file: String::new(), modules: None, own: None }
    }

    /// What the agent reads from `/smolvm/boot`.
    pub(crate) fn boot_file(mut self, text: impl Into<String>) -> Self {
        self.boot_file = text.into();
        self
    }

    /// The drivers for the kernel, where the rootfs has some.
    pub(crate) fn modules(mut self, modules: Option<Modules>) -> Self {
        self.modules = modules;
        self
    }

    /// The image's own initrd, where it has one, and what messages call it. Its bytes come first,
    /// as they are; the file's cursor is not moved.
    pub(crate) fn image_initrd(mut self, initrd: Option<(&'a File, &'a Path)>) -> Self {
        self.own = initrd;
        self
    }

    /// Writes it to a new file at `path`, for its owner alone, or over the one that is there.
    pub(crate) fn write(&self, path: &Path) -> Result<(), InitrdError> {
        let failed = |source| InitrdError::Write { path: path.to_owned(), source };
        let mut options = File::options();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(path).map_err(failed)?;
        if let Some((initrd, initrd_path)) = self.own {
            copy_image_initrd(initrd, initrd_path, &mut file, path)?;
        }
        let mut archive = Archive::new(BufWriter::new(file));
        let written = self.fill(&mut archive).and_then(|()| archive.finish()?.flush());
        written.map_err(failed)
    }

    fn fill(&self, archive: &mut Archive<impl Write>) -> io::Result<()> {
        for directory in ["dev", "proc", "sys", "smolvm", "smolvm/root"] {
            archive.directory(directory)?;
        }
        // The first process has these open before it can mount anything.
        archive.character_device("dev/console", 0o600, (5, 1))?;
        archive.character_device("dev/null", 0o666, (1, 3))?;
        archive.file("smolvm/agent", 0o755, self.agent)?;
        archive.file("smolvm/boot", 0o600, self.boot_file.as_bytes())?;
        if let Some(modules) = &self.modules { add_modules(archive, modules) } else { Ok(()) }
    }
}

fn add_modules(archive: &mut Archive<impl Write>, modules: &Modules) -> io::Result<()> {
    let root = format!("smolvm/modules/{}", modules.release);
    let mut directories = vec!["smolvm/modules".to_owned(), root.clone()];
    for module in &modules.files {
        for (slash, _) in module.path.match_indices('/') {
            let directory = format!("{root}/{}", &module.path[..slash]);
            if !directories.contains(&directory) {
                directories.push(directory);
            }
        }
    }
    for directory in &directories {
        archive.directory(directory)?;
    }
    for module in &modules.files {
        archive.file(&format!("{root}/{}", module.path), 0o644, &module.content)?;
    }
    archive.file(&format!("{root}/modules.dep"), 0o644, modules.dependency_list().as_bytes())?;
    archive.file(&format!("{root}/modules.builtin"), 0o644, modules.builtin_list().as_bytes())
}

/// Copies the image's own initrd to the front of the file.
fn copy_image_initrd(
    initrd: &File,
    initrd_path: &Path,
    file: &mut File,
    path: &Path,
) -> Result<(), InitrdError> {
    let unreadable = |source| InitrdError::Read { path: initrd_path.to_owned(), source };
    let head = read_up_to(initrd, 0, 16).map_err(unreadable)?;
    if !MAGICS.iter().any(|magic| Fields(&head).has(0, magic)) {
        return Err(InitrdError::NotAnInitrd { path: initrd_path.to_owned() });
    }
    // Both files may be at fault here; the one that is written to is by far the likelier.
    let failed = |source| InitrdError::Write { path: path.to_owned(), source };
    let length = io::copy(&mut PositionedReader::new(initrd, 0), file).map_err(failed)?;
    // The kernel takes one run of four zeros for the end of lz4 data, and skips all others.
    let padding = length.next_multiple_of(ALIGNMENT) - length + ALIGNMENT;
    io::copy(&mut io::Read::take(io::repeat(0), padding), file).map_err(failed)?;
    Ok(())
}
