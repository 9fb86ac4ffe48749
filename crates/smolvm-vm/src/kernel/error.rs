//! [`KernelError`]: why a file cannot be booted as a kernel, each with its remedy.

use std::io;
use std::path::PathBuf;

use super::Architecture;

/// Why a kernel cannot be booted. The message names the file and says what to give instead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// The file cannot be read.
    #[error("cannot read the kernel {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },

    /// It is something else.
    #[error(
        "{} is not a kernel: it is {content}. Give a bzImage (vmlinuz), an ELF kernel (vmlinux) \
         or an arm64 Image", path.display()
    )]
    NotAKernel {
        /// The file.
        path: PathBuf,
        /// What it is, as `an HTML page`.
        content: &'static str,
    },

    /// It is a kernel of a kind that is not booted here.
    #[error("{} is {content}, which cannot be booted. {remedy}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What it is, as `a 32-bit kernel`.
        content: &'static str,
        /// What to give instead.
        remedy: &'static str,
    },

    /// It is for a processor for which this build has no program to run commands with.
    #[error(
        "{} is a kernel for {architecture}, and this smolvm was built without the program that \
         runs commands in such guests. Install the standard library for it where smolvm is built \
         (rustup target add {architecture}-unknown-linux-musl) and build it again, or give another \
         kernel", path.display()
    )]
    NoAgent {
        /// The file.
        path: PathBuf,
        /// What the kernel is for.
        architecture: Architecture,
    },

    /// It is for another processor than the host's, which Firecracker does not emulate.
    #[error(
        "{} is a kernel for {architecture}, but this host is {host}, and Firecracker emulates no \
         other. Give a kernel for {host}, or use QEMU",
        path.display()
    )]
    OtherArchitecture {
        /// The file.
        path: PathBuf,
        /// What the kernel is for.
        architecture: Architecture,
        /// What it was to be booted on.
        host: Architecture,
    },

    /// An x86 ELF kernel without the entry point that QEMU uses, and that cannot be given one.
    #[error(
        "QEMU cannot boot {}: it is an ELF kernel without a PVH entry point (its configuration \
         lacks CONFIG_PVH), and leaves no room for a loader. Give the bzImage (vmlinuz) of the \
         same kernel; Firecracker boots it as it is", path.display()
    )]
    NoWayIn {
        /// The file.
        path: PathBuf,
    },

    /// An arm64 ELF kernel, which QEMU would start without command line and initrd.
    #[error(
        "QEMU cannot boot {}: it gives an ELF kernel for arm64 neither command line nor initrd. \
         Give the Image of the same kernel", path.display()
    )]
    ElfOnArm {
        /// The file.
        path: PathBuf,
    },

    /// A kernel that unpacks no initrd, and a disk that the agent cannot be put into instead.
    #[error(
        "the kernel {} cannot unpack an initrd (its configuration lacks CONFIG_BLK_DEV_INITRD), \
         and a shared disk is not written to: there is no place for the program that runs \
         commands. Use an isolated disk, or give a kernel that has it", path.display()
    )]
    NoInitrd {
        /// The file.
        path: PathBuf,
    },

    /// The kernel inside a bzImage cannot be got out of it.
    #[error(
        "the kernel inside {} cannot be unpacked, and Firecracker boots no bzImage: {reason}. \
         Give the ELF kernel (vmlinux), or fetch the image again", path.display()
    )]
    Payload {
        /// The bzImage.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// A kernel in the form that its VMM boots cannot be written.
    #[error("cannot write what boots the kernel {}: {source}. Is there space left?", path.display())]
    Unpack {
        /// The kernel.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },

    /// A kernel that Firecracker does not boot in the form it has.
    #[error("Firecracker cannot boot {}: it is {content}. {remedy}", path.display())]
    NotForFirecracker {
        /// The file.
        path: PathBuf,
        /// What it is.
        content: &'static str,
        /// What to give instead.
        remedy: &'static str,
    },
}
