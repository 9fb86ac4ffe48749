//! What a VMM is started with besides its arguments: descriptors of what it could not open itself,
//! a network namespace, another user, limits.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use super::group::Group;
use crate::arguments::FIRST_OWN;
use crate::control::{Access, Setting};
use crate::jail::Line;
use crate::state::Process;
use crate::sys::{self, Preparation, TapName};

/// What a VMM has been given.
#[derive(Debug, Default)]
pub(super) struct Belongings {
    /// The copies in memory that it needs no more once its guest runs.
    pub(super) copies: Vec<File>,
    /// Its cgroup, which is removed with this.
    group: Option<Group>,
    /// The line to what keeps its jail.
    pub(super) line: Option<Line>,
}

/// Prepares a VMM for these. `neighbour` is the process whose network namespace it may be put in.
/// Returns what it has been given.
pub(super) fn apply(
    settings: &[Setting],
    preparation: &mut Preparation,
    neighbour: Option<Process>,
) -> io::Result<Belongings> {
    let mut belongings = Belongings::default();
    for setting in settings {
        match setting {
            Setting::Network { device } => {
                let neighbour = neighbour.ok_or(io::ErrorKind::NotFound)?;
                enter(neighbour, device, preparation)?;
            }
            Setting::Tap { number, name } => {
                let name = TapName::new(name.as_bytes()).ok_or(io::ErrorKind::InvalidInput)?;
                preparation.tap = Some((name, *number));
            }
            Setting::File { number, access, path } => {
                let named = |error: io::Error| {
                    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
                };
                let file = open(*access, path, &mut belongings.copies).map_err(named)?;
                // Numbered so high that no descriptor is in another's way.
                let file = sys::duplicate(file.as_raw_fd(), FIRST_OWN)?;
                preparation.handed.push((file, *number));
            }
            Setting::User { number, groups } => {
                preparation.user = Some((*number, groups.clone()));
            }
            Setting::Group { path, limits } => {
                let made = Group::make(path, limits)?;
                preparation.group = Some(made.entrance()?);
                belongings.group = Some(made);
            }
            Setting::FileSize(bytes) => preparation.file_size = Some(*bytes),
            Setting::OpenFiles(count) => preparation.open_files = Some(*count),
            Setting::Init => preparation.is_init = true,
            // That is for who speaks with its guest.
            Setting::Succeeds(_) => {}
        }
    }
    Ok(belongings)
}

/// Prepares a VMM to be in the namespaces of this process, in which there is a device of this name.
fn enter(process: Process, device: &str, preparation: &mut Preparation) -> io::Result<()> {
    let of = |process: &str, what: &str| format!("/proc/{process}/{what}");
    let process = process.pid.to_string();
    let devices = fs::read_to_string(of(&process, "net/dev"))?;
    let mut devices = devices.lines().filter_map(|line| line.split_once(':'));
    if !devices.any(|(name, _)| name.trim() == device) {
        let why = format!("there is no network device {device} for it");
        return Err(io::Error::new(io::ErrorKind::NotFound, why));
    }
    preparation.network = Some(File::open(of(&process, "ns/net"))?.into());
    let users = of(&process, "ns/user");
    if fs::read_link(&users)? != fs::read_link(of("self", "ns/user"))? {
        preparation.users = Some(File::open(users)?.into());
    }
    Ok(())
}

fn open(access: Access, path: &Path, copies: &mut Vec<File>) -> io::Result<OwnedFd> {
    match access {
        Access::Read => File::open(path).map(OwnedFd::from),
        Access::Write => OpenOptions::new().read(true).write(true).open(path).map(OwnedFd::from),
        Access::Copy => {
            let mut copy = sys::memory_file()?;
            io::copy(&mut File::open(path)?, &mut copy)?;
            copies.push(copy.try_clone()?);
            Ok(copy.into())
        }
        Access::Listen => {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            UnixListener::bind(path).map(OwnedFd::from)
        }
        Access::Connect => UnixStream::connect(path).map(OwnedFd::from),
    }
}
