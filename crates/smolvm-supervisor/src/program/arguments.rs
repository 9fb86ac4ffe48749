//! What the supervisor was started with: its arguments and the descriptors they name.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use crate::sys;

/// The number of the agent's channel in the VMM.
pub(crate) const AGENT_NUMBER: RawFd = 9;
/// The number of the first file in the VMM.
const FIRST_FILE: RawFd = 10;
/// The number after the last that a file or other descriptor may have in the VMM.
const FIRST_OTHER: RawFd = 24;
/// No descriptor for the VMM has this number or a higher one, everything else here has.
pub(crate) const FIRST_OWN: RawFd = 64;

/// What the supervisor was started with.
pub(crate) struct Arguments {
    /// The directory of the VM's state.
    pub(crate) state: PathBuf,
    /// The directory of its sockets.
    pub(crate) runtime: PathBuf,
    /// Whose the VM is.
    pub(crate) mode: Mode,
    /// Refers to the process that owns the VM.
    pub(crate) owner: Option<OwnedFd>,
    /// The numbers of the files for the VMM, here and there.
    pub(crate) files: std::ops::Range<RawFd>,
    /// The socket to the library.
    pub(crate) control: UnixStream,
}

/// Whose the VM is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// It goes with its owner.
    Owned,
    /// It is to stay, once it has been started or the owner has said so.
    Detached,
    /// It was made before, and stays.
    Adopt,
}

impl Arguments {
    /// Takes over what was handed to this process, and closes whatever else it inherited.
    pub(crate) fn take(arguments: impl IntoIterator<Item = OsString>) -> io::Result<Self> {
        let mut arguments = arguments.into_iter().skip(1);
        let mut next = || arguments.next().ok_or_else(|| invalid("an argument is missing"));
        let state = directory(next()?)?;
        let runtime = directory(next()?)?;
        let mode = match next()?.to_str() {
            Some("owned") => Mode::Owned,
            Some("detached") => Mode::Detached,
            Some("adopt") => Mode::Adopt,
            _ => return Err(invalid("neither owned nor detached nor adopt")),
        };
        let owner = next()?;
        let owner = if owner == "-" { None } else { Some(number(&owner)?) };
        let files = arguments.map(|file| number(&file)).collect::<io::Result<Vec<_>>>()?;

        let control = sys::duplicate(0, FIRST_OWN)?;
        let owner = owner.map(|owner| sys::duplicate(owner, FIRST_OWN)).transpose()?;
        let duplicates = files
            .iter()
            .map(|&file| sys::duplicate(file, FIRST_OWN))
            .collect::<io::Result<Vec<_>>>()?;
        let kept = [&control].into_iter().chain(&owner).chain(&duplicates);
        close_others(&kept.map(std::os::fd::AsRawFd::as_raw_fd).collect::<Vec<_>>())?;

        let null = sys::duplicate(File::open("/dev/null")?.as_raw_fd(), FIRST_OWN)?;
        sys::place(null.as_fd(), 0, false)?;
        // Keeps the number until a VMM gets the agent's channel in its place.
        sys::place(null.as_fd(), AGENT_NUMBER, true)?;
        let mut files = FIRST_FILE..FIRST_FILE;
        for duplicate in duplicates {
            if files.end == FIRST_OTHER {
                return Err(invalid("there are too many files"));
            }
            sys::place(duplicate.as_fd(), files.end, true)?;
            files.end += 1;
        }
        // Nothing else gets a number that a descriptor of a VMM may have: it would be in its way.
        for number in files.end..FIRST_OTHER {
            sys::place(null.as_fd(), number, true)?;
        }
        let control = UnixStream::from(control);
        control.set_nonblocking(true)?;
        Ok(Self { state, runtime, mode, owner, files, control })
    }
}

fn directory(path: OsString) -> io::Result<PathBuf> {
    if path.as_bytes().contains(&b'\n') {
        return Err(invalid("a directory has a line break in its name"));
    }
    let path = PathBuf::from(path);
    if path.is_absolute() { Ok(path) } else { Err(invalid("a directory is not absolute")) }
}

fn number(text: &OsString) -> io::Result<RawFd> {
    text.to_str()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| invalid("neither a descriptor's number nor -"))
}

/// Closes all descriptors but the standard ones and `kept`: what the owner's process did not
/// close on exec is none of ours, and least of all the VMM's.
fn close_others(kept: &[RawFd]) -> io::Result<()> {
    let listing = fs::read_dir("/proc/self/fd")?;
    let open = listing.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let open: Vec<RawFd> = open.collect();
    for number in open.into_iter().filter(|number| *number > 2 && !kept.contains(number)) {
        sys::close_inherited(number);
    }
    Ok(())
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}
