//! [`Session::copy_from`]: files out of the guest, which may send anything.

use std::path::Path;

use smolvm_protocol::{Entry, Request, Stream};

use super::super::Session;
use super::super::channel::{Channel, Interrupted, Outcome};
use super::super::error::SessionError;
use super::super::inbox::Item;
use super::super::wait::deadline;
use super::destination::{Destination, Refusal};
use super::{STALL, guest_path};

/// No copy has more files, directories and links.
const MAX_ENTRIES: u64 = 4_000_000;

/// A copy out of the guest.
struct Copy<'a> {
    guest: &'a Path,
    destination: Destination,
    entries: u64,
    bytes: u64,
    max_bytes: u64,
    /// What was sent last, for messages.
    last: String,
}

impl Session {
    /// Copies a file or directory of the guest to this host, with all that is in it. To a directory
    /// that exists it goes under its own name, elsewhere it is called what `host` says.
    ///
    /// Permission bits are kept, but no set-user-id or set-group-id; the owner can always write to
    /// his directories. Links are copied as links, except for `guest` itself. Nothing is written
    /// outside `host`, whatever the guest sends, and no more than the disk has room for.
    ///
    /// # Errors
    ///
    /// [`SessionError::Guest`] where the guest cannot read something;
    /// [`SessionError::CopyRefused`] and [`SessionError::CopyTooLarge`] where it misbehaves;
    /// [`SessionError::Io`] where this host cannot write.
    pub fn copy_from(&self, guest: &Path, host: &Path) -> Result<(), SessionError> {
        let request = Request::Get(guest_path(guest)?);
        let io = |source| SessionError::Io { action: "copy to", path: host.to_owned(), source };
        let destination = Destination::new(host, guest.file_name()).map_err(io)?;
        let max_bytes = destination.available().map_err(io)?;
        let mut copy =
            Copy { guest, destination, entries: 0, bytes: 0, max_bytes, last: String::new() };
        let channel = self
            .connection
            .open(&request, deadline(STALL))
            .map_err(|interrupted| copy.interrupted(interrupted))?;
        copy.follow(&channel)
    }
}

impl Copy<'_> {
    fn follow(&mut self, channel: &Channel) -> Result<(), SessionError> {
        enum Next {
            Item(Item, Option<u32>),
            End(Outcome),
        }
        loop {
            let next = channel.wait(deadline(STALL), |state| {
                let item = state.inbox(Stream::Stdout).take();
                let item = item.map(|(item, credit)| Next::Item(item, credit));
                item.or_else(|| state.outcome.clone().map(Next::End))
            });
            match next {
                None => return Err(self.interrupted(Interrupted::TimedOut)),
                Some(Next::Item(item, credit)) => {
                    self.take(item)?;
                    channel.grant(Stream::Stdout, credit);
                }
                Some(Next::End(outcome)) => {
                    let finished = self.destination.finish();
                    return match outcome {
                        Outcome::Done => finished.map_err(|refusal| self.refused(refusal)),
                        outcome => Err(self.interrupted(Interrupted::Ended(outcome))),
                    };
                }
            }
        }
    }

    fn take(&mut self, item: Item) -> Result<(), SessionError> {
        let taken = match item {
            Item::Entry(entry, _) => {
                self.count_entry(&entry)?;
                self.destination.enter(&entry)
            }
            Item::Data(bytes) => {
                self.bytes = self.bytes.saturating_add(bytes.len() as u64);
                if self.bytes > self.max_bytes {
                    return Err(self.too_large(format!("{} bytes", self.max_bytes)));
                }
                self.destination.write(&bytes)
            }
        };
        taken.map_err(|refusal| self.refused(refusal))
    }

    fn count_entry(&mut self, entry: &Entry) -> Result<(), SessionError> {
        self.last = entry.path.as_bytes().escape_ascii().to_string();
        self.entries += 1;
        if self.entries > MAX_ENTRIES {
            return Err(self.too_large(format!("{MAX_ENTRIES} files")));
        }
        Ok(())
    }

    fn too_large(&self, limit: String) -> SessionError {
        let destination = self.destination.path.clone();
        SessionError::CopyTooLarge { path: self.guest.to_owned(), destination, limit }
    }

    fn refused(&self, refusal: Refusal) -> SessionError {
        match refusal {
            Refusal::Entry(reason) => SessionError::CopyRefused {
                path: self.guest.to_owned(),
                entry: self.last.clone(),
                reason,
            },
            Refusal::Io(source) => {
                let path = match self.last.as_str() {
                    "" => self.destination.path.clone(),
                    last => self.destination.path.join(last),
                };
                SessionError::Io { action: "write", path, source }
            }
        }
    }

    fn interrupted(&self, interrupted: Interrupted) -> SessionError {
        interrupted.into_error(&format!("copy {} out", self.guest.display()), STALL)
    }
}
