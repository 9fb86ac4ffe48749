//! Why a guest does not boot, in words for the person who reads its console.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::drivers::Driver;
use super::modules::Missing;

/// Why a guest does not boot.
#[derive(Debug)]
pub(super) enum BootError {
    /// A line of the configuration cannot be understood.
    Config(String),
    /// A file that the host put into the initial RAM disk cannot be read.
    File(PathBuf, io::Error),
    /// A device is there, and no driver for it.
    Driver { driver: Driver, release: String, missing: Missing },
    /// A device did not show up.
    Device { path: PathBuf, seen: Vec<String> },
    /// A device cannot be read.
    Read(PathBuf, io::Error),
    /// A device holds nothing that could be mounted.
    FileSystem(PathBuf),
    /// A file system cannot be mounted.
    Mount { what: String, target: PathBuf, error: io::Error },
    /// A file system of a kind that the agent cannot grow.
    CannotGrow { device: PathBuf, kind: String },
    /// A file system that could not be grown.
    Grow { device: PathBuf, error: io::Error },
    /// The root file system cannot be entered.
    Enter(io::Error),
    /// The image has no such init.
    NoInit(PathBuf),
    /// The init does not start.
    Init(PathBuf, io::Error),
    /// No process can be made.
    Fork(io::Error),
}

impl fmt::Display for BootError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(line) => write!(
                formatter,
                "the boot configuration says `{line}`, which this agent does not understand; host \
                 and agent may be of different versions"
            ),
            Self::File(path, error) => {
                write!(formatter, "cannot read {} in the initrd: {error}", path.display())
            }
            Self::Driver { driver, release, missing } => {
                write!(formatter, "no driver for {}: ", driver.purpose)?;
                match missing {
                    Missing::Absent => write!(
                        formatter,
                        "the module {} of Linux {release} is neither in the image's initrd nor in \
                         its root file system",
                        driver.module
                    ),
                    Missing::Refused { path, error } => {
                        write!(formatter, "the kernel does not load {}: {error}", path.display())
                    }
                }?;
                write!(
                    formatter,
                    "; use a root file system with /lib/modules/{release}, or a kernel that has \
                     {} built in",
                    driver.module
                )
            }
            Self::Device { path, seen } => {
                write!(formatter, "the machine has no disk {}; ", path.display())?;
                match seen.as_slice() {
                    [] => formatter.write_str("it has no disks"),
                    seen => write!(formatter, "its disks are {}", seen.join(", ")),
                }
            }
            Self::Read(path, error) => write!(formatter, "cannot read {}: {error}", path.display()),
            Self::FileSystem(path) => write!(
                formatter,
                "{} has no file system that this kernel knows; the root file system must be an \
                 image of a file system (such as ext4), without partitions",
                path.display()
            ),
            Self::Mount { what, target, error } => {
                write!(formatter, "cannot mount {what} at {}: {error}", target.display())
            }
            Self::CannotGrow { device, kind } => write!(
                formatter,
                "the file system on {} is {kind}, and only ext4 can be grown; leave the size of \
                 the disk out",
                device.display()
            ),
            Self::Grow { device, error } => write!(
                formatter,
                "cannot grow the file system on {} to the size of the disk: {error}; leave the \
                 size out, or ask for a smaller one",
                device.display()
            ),
            Self::Enter(error) => write!(formatter, "cannot enter the root file system: {error}"),
            Self::NoInit(path) => write!(
                formatter,
                "the root file system has no program {}, which was to be its init",
                path.display()
            ),
            Self::Init(path, error) => {
                write!(formatter, "cannot start the image's init {}: {error}", path.display())
            }
            Self::Fork(error) => write!(
                formatter,
                "cannot start a process beside the image's init: {error}; the guest may have too \
                 little memory"
            ),
        }
    }
}
