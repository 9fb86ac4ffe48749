//! [`Session::copy_from`]: files out of the guest, which may send anything.

use std::path::Path;
use std::time::Instant;

use smolvm_protocol::Request;

use super::STALL;
use super::budget::CopyLimits;
use super::destination::Destination;
use super::guest_path::GuestPath;
use crate::session::Session;
use crate::session::channel::{Interrupted, Outcome};
use crate::session::error::SessionError;
use crate::session::inbox::Item;
use crate::session::wait::deadline;

impl Session {
    /// Copies a file or directory of the guest to this host, with all that is in it, with
    /// permission bits (but no set-user-id, set-group-id or sticky bit) and times of change.
    /// Nothing is written outside of the copy, whatever the guest sends, and the last 64 MiB of
    /// the disk stay free.
    ///
    /// As with `cp -r`: where `host` is a directory, the copy is made in it, under the name that
    /// it has in the guest; else it is called what `host` says, and the directory that leads there
    /// must exist. Directories that are on both sides are joined, files take the place of files
    /// and links, each when all of it has come. A `guest` that ends in `.` stands for what is in
    /// the directory; one that is not absolute begins at the root directory.
    ///
    /// Links are copied as links, except for `guest` itself. No link below `host` is followed.
    ///
    /// # Errors
    ///
    /// [`SessionError::Guest`] where the guest cannot read something;
    /// [`SessionError::CopyRefused`] and [`SessionError::CopyTooLarge`] where it sends what is not
    /// accepted; [`SessionError::Io`] where this host cannot write; [`SessionError::NotAnswering`]
    /// where the guest sends nothing for a minute. What has come by then stays, in whole files.
    pub fn copy_from(&self, guest: &Path, host: &Path) -> Result<(), SessionError> {
        self.copy_from_within(guest, host, CopyLimits::default())
    }

    /// As [`copy_from`](Self::copy_from), within other limits.
    ///
    /// # Errors
    ///
    /// As [`copy_from`](Self::copy_from).
    pub fn copy_from_within(
        &self,
        guest: &Path,
        host: &Path,
        limits: CopyLimits,
    ) -> Result<(), SessionError> {
        let source = GuestPath::new(guest)?;
        let request = format!("give a copy of {source}");
        let explain = |interrupted: Interrupted| interrupted.into_error(&request, STALL);
        let mut destination = Destination::open(guest, host, limits)?;
        let opener = Request::Get(source.bytes());
        let channel = self.open(&opener, deadline(STALL)).map_err(explain)?;
        while let Some(item) = channel.next_item(deadline(STALL)).map_err(explain)? {
            match item {
                Item::Entry(entry, _) => destination.entry(entry)?,
                Item::Data(bytes) => destination.data(&bytes)?,
            }
        }
        // What could not be read may be a part of it: the rest is kept.
        let outcome = channel.wait_outcome(Some(Instant::now()));
        match outcome.ok_or_else(|| channel.late()).map_err(explain)? {
            Outcome::Done => destination.finish(),
            failed @ Outcome::Failed(_) => {
                destination.finish()?;
                Err(explain(Interrupted::Ended(failed)))
            }
            other => Err(explain(Interrupted::Ended(other))),
        }
    }
}
