//! What a machine is, on its way out of a QEMU and into another one ("Migration" of
//! `docs/interop/qemu-qmp-ref`): over a descriptor, since QEMU opens no file.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde::Deserialize;
use serde_json::json;

use super::{Command, Qmp, QmpError};

/// How far it is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Migration {
    /// A word such as `active`, `completed` or `failed`; missing where none was begun.
    #[serde(default)]
    status: String,
    #[serde(default, rename = "error-desc")]
    error: Option<String>,
}

/// What QEMU calls the descriptor.
const NAME: &str = "machine";

/// As fast as it goes: by default it would leave room for others on a network.
const BANDWIDTH: u64 = 1 << 40;

/// How often it is looked how far it is.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

impl Qmp {
    /// Gives what is said from now on this much time.
    pub(crate) fn allow(&mut self, timeout: Duration) {
        self.deadline = Instant::now() + timeout;
    }

    /// Begins to write what the machine is to `file`. QEMU has stopped the machine when it has
    /// ended.
    pub(crate) fn migrate(&mut self, file: BorrowedFd<'_>) -> Result<(), QmpError> {
        self.give(file)?;
        let parameters = json!({ "max-bandwidth": BANDWIDTH });
        self.execute_with(Command::MigrateSetParameters, Some(parameters))?;
        let to = json!({ "uri": format!("fd:{NAME}") });
        self.execute_with(Command::Migrate, Some(to)).map(drop)
    }

    /// Has a QEMU that was started without a machine read it from `file`, and returns when it has.
    /// One that cannot ends.
    pub(crate) fn migrate_incoming(&mut self, file: BorrowedFd<'_>) -> Result<(), QmpError> {
        self.give(file)?;
        let from = json!({ "uri": format!("fd:{NAME}") });
        self.execute_with(Command::MigrateIncoming, Some(from))?;
        self.migrated()
    }

    /// Returns when all has been written or read.
    pub(crate) fn migrated(&mut self) -> Result<(), QmpError> {
        loop {
            let answer = self.execute(Command::QueryMigrate)?;
            let Migration { status, error } =
                serde_json::from_value(answer).map_err(|error| self.malformed(error))?;
            match status.as_str() {
                "completed" => return Ok(()),
                "failed" | "cancelled" => {
                    let description = error.unwrap_or(status);
                    return Err(self.refused(Command::Migrate, description));
                }
                _ => thread::sleep(LOOK_AGAIN),
            }
        }
    }

    /// Gives QEMU a descriptor, which comes with the bytes of the command.
    fn give(&mut self, file: BorrowedFd<'_>) -> Result<(), QmpError> {
        let line = self.line(Command::GetFd, Some(json!({ "fdname": NAME })))?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let files = [file];
        ancillary.push(SendAncillaryMessage::ScmRights(&files));
        self.within_deadline()?;
        let stream = self.stream.get_ref();
        let sent = sendmsg(stream, &[IoSlice::new(&line)], &mut ancillary, SendFlags::NOSIGNAL);
        match sent {
            Ok(count) if count == line.len() => self.answer(Command::GetFd).map(drop),
            Ok(_) => Err(self.io(std::io::ErrorKind::WriteZero.into())),
            Err(error) => Err(self.io(error.into())),
        }
    }
}
