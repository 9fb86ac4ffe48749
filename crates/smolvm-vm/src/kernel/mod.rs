//! What a kernel file is, told by its header before anything is started, and whether QEMU can boot
//! it.

mod architecture;
mod arm64;
mod banner;
mod bytes;
mod bzimage;
mod content;
mod elf;
mod error;
mod payload;
mod pvh;
mod unpacked;

#[cfg(test)]
pub(crate) mod tests;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

pub(crate) use architecture::Architecture;
use banner::Banner;
pub(crate) use bytes::{Fields, PositionedReader, read_up_to};
pub use error::KernelError;
pub(crate) use unpacked::{unpacked, with_pvh_entry};

/// A kernel that some VMM can boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kernel {
    /// Where it was found; for messages, it is not opened again.
    pub(crate) path: PathBuf,
    /// How it is packed.
    pub(crate) format: KernelFormat,
    /// The processor that it is for.
    pub(crate) architecture: Architecture,
    /// What `uname -r` says in its guest: one component of a path, the name of the directory with
    /// its modules. `None` where the file does not tell.
    pub(crate) release: Option<String>,
    /// Whether it unpacks an initrd. `None` where only booting it tells.
    pub(crate) supports_initrd: Option<bool>,
}

/// How a kernel is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KernelFormat {
    /// The compressed x86 kernel that distributions install as `vmlinuz`.
    BzImage,
    /// An uncompressed `vmlinux`.
    Elf {
        /// Whether it has the entry point that QEMU and Xen start it by.
        pvh: bool,
    },
    /// The uncompressed arm64 kernel.
    Arm64Image,
    /// The same, compressed with gzip, as distributions install it.
    Arm64ImageGzip,
}

/// What a header says, in a form of its own for each format.
struct Header {
    format: KernelFormat,
    architecture: Architecture,
    banner: Banner,
}

/// Why a header is not one that can be booted; the path is added by who knows it.
enum Refusal {
    Read(io::Error),
    NotAKernel(&'static str),
    Unsupported { content: &'static str, remedy: &'static str },
}

/// How many first bytes are read at once: all headers, and what other files are recognised by.
const HEAD: u64 = 4096;

impl Kernel {
    /// Recognises the kernel in `file`. `path` is what messages call it.
    ///
    /// The formats are those of `arch/x86/boot.rst` and `arch/arm64/booting.rst` in the kernel's
    /// documentation, and ELF. The file's cursor is not moved, and memory is bounded whatever the
    /// file holds.
    pub(crate) fn recognise(file: &File, path: &Path) -> Result<Self, KernelError> {
        let header = Header::read(file).map_err(|refusal| refusal.of(path))?;
        Ok(Self {
            path: path.to_owned(),
            format: header.format,
            architecture: header.architecture,
            release: header.banner.release,
            supports_initrd: header.banner.supports_initrd,
        })
    }

    /// Looks whether QEMU can boot it, once an ELF kernel that lacks it has a
    /// [way in](with_pvh_entry). Where it cannot, its own message is of no help,
    /// or the guest is silent.
    pub(crate) fn for_qemu(&self) -> Result<(), KernelError> {
        match (self.format, self.architecture) {
            (KernelFormat::Elf { .. }, Architecture::Aarch64) => {
                Err(KernelError::ElfOnArm { path: self.path.clone() })
            }
            _ => Ok(()),
        }
    }

    /// The program that runs commands in its guest.
    pub(crate) fn agent(&self) -> Result<&'static [u8], KernelError> {
        self.architecture.agent().ok_or_else(|| KernelError::NoAgent {
            path: self.path.clone(),
            architecture: self.architecture,
        })
    }

    /// Looks whether Firecracker can boot it on `host`, once what is inside a bzImage is
    /// [unpacked].
    pub(crate) fn for_firecracker(&self, host: Architecture) -> Result<(), KernelError> {
        let path = || self.path.clone();
        if self.architecture != host {
            let architecture = self.architecture;
            return Err(KernelError::OtherArchitecture { path: path(), architecture, host });
        }
        let refused =
            |content, remedy| Err(KernelError::NotForFirecracker { path: path(), content, remedy });
        match (self.format, self.architecture) {
            (KernelFormat::Elf { .. }, Architecture::Aarch64) => {
                refused("an ELF kernel for arm64", "Give the Image of the same kernel")
            }
            (KernelFormat::Arm64ImageGzip, _) => {
                refused("a compressed Image", "Unpack it first (gunzip)")
            }
            _ => Ok(()),
        }
    }

    /// Whether the agent is started from the disk, since the kernel would unpack no initrd. One
    /// that does not tell is believed to do so.
    pub(crate) fn starts_from_disk(&self) -> bool {
        self.supports_initrd == Some(false)
    }
}

impl Header {
    fn read(file: &File) -> Result<Self, Refusal> {
        let head = read_up_to(file, 0, HEAD)?;
        // A bzImage may begin like a Windows program, and an arm64 Image too: EFI starts them so.
        if let Some(header) = bzimage::read(&head, file)? {
            return Ok(header);
        }
        if let Some(header) = elf::read(&head, file)? {
            return Ok(header);
        }
        if let Some(header) = arm64::read(&head, file)? {
            return Ok(header);
        }
        Err(content::refuse(&head))
    }
}

impl Refusal {
    fn of(self, path: &Path) -> KernelError {
        let path = path.to_owned();
        match self {
            Self::Read(source) => KernelError::Read { path, source },
            Self::NotAKernel(content) => KernelError::NotAKernel { path, content },
            Self::Unsupported { content, remedy } => {
                KernelError::Unsupported { path, content, remedy }
            }
        }
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Read(error)
    }
}
