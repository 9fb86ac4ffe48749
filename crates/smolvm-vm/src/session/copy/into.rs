//! [`Session::copy_to`]: files into the guest.

use std::path::Path;
use std::time::Instant;

use smolvm_protocol::{EntryKind, Request};

use super::STALL;
use super::guest_path::{self, GuestPath};
use super::source::{self, Stopped};
use crate::session::Session;
use crate::session::channel::{Interrupted, Outcome};
use crate::session::error::SessionError;
use crate::session::inbox::Item;
use crate::session::wait::deadline;

impl Session {
    /// Copies a file or directory of this host into the guest, with all that is in it, with
    /// permission bits and times of change; all of it belongs to root there.
    ///
    /// As with `cp -r`: where `guest` is a directory, or ends in a slash, the copy is made in it,
    /// under the name that it has on this host; else it is called what `guest` says. Directories
    /// that lead there are made. Directories that are on both sides are joined, files take the
    /// place of files. A `host` that ends in `.` stands for what is in the directory. A `guest`
    /// that is not absolute begins at the root directory.
    ///
    /// Links are copied as links, except for `host` itself. Sockets, fifos and devices are
    /// refused.
    ///
    /// # Errors
    ///
    /// [`SessionError::Io`] where this host cannot read something; [`SessionError::Guest`] where
    /// the guest cannot write it; [`SessionError::NotAnswering`] where it takes nothing for a
    /// minute.
    pub fn copy_to(&self, host: &Path, guest: &Path) -> Result<(), SessionError> {
        let metadata =
            fs_err::metadata(host).map_err(|error| SessionError::io("read", host, error))?;
        let target = self.target(guest_path::own_name(host), GuestPath::new(guest)?)?;
        let request = format!("take a copy of {} as {target}", host.display());
        let explain = |interrupted: Interrupted| interrupted.into_error(&request, STALL);
        let opener = Request::Put(target.bytes());
        let channel = self.open(&opener, deadline(STALL)).map_err(explain)?;
        source::send(host, &metadata, &channel).map_err(|stopped| match stopped {
            Stopped::Host(error) => error,
            Stopped::Guest(interrupted) => explain(interrupted),
        })?;
        match channel.wait_outcome(deadline(STALL)) {
            Some(Outcome::Done) => Ok(()),
            Some(outcome) => Err(explain(Interrupted::Ended(outcome))),
            None => Err(explain(channel.late())),
        }
    }

    /// What a copy of something with this name is called in the guest.
    fn target(
        &self,
        name: Option<&std::ffi::OsStr>,
        guest: GuestPath,
    ) -> Result<GuestPath, SessionError> {
        match name {
            Some(name) if guest.is_meant_as_directory() || self.is_directory(&guest)? => {
                guest.join(name)
            }
            _ => Ok(guest),
        }
    }

    /// Whether a path of the guest is a directory, or a link to one.
    fn is_directory(&self, path: &GuestPath) -> Result<bool, SessionError> {
        let request = format!("look at {path}");
        let explain = |interrupted: Interrupted| interrupted.into_error(&request, STALL);
        // Only a directory can be read under such a path. It is not read beyond its first entry.
        let inside = Request::Get([path.bytes(), b"/.".to_vec()].concat());
        let channel = self.open(&inside, deadline(STALL)).map_err(explain)?;
        match channel.next_item(deadline(STALL)).map_err(explain)? {
            Some(Item::Entry(entry, _)) => Ok(entry.kind == EntryKind::Directory),
            Some(Item::Data(_)) => Ok(false),
            None => match channel.wait_outcome(Some(Instant::now())) {
                Some(lost @ Outcome::Lost(_)) => Err(explain(Interrupted::Ended(lost))),
                _ => Ok(false),
            },
        }
    }
}
