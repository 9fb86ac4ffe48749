//! Pausing a machine and letting it go on, and who has paused it.
//!
//! What is paused is noted in the file `paused` of its directory before the VMM is told, so that a
//! machine that stands still never looks as if it ran. A note is of one run of the VMM, and means
//! nothing to the next one. Whoever makes a snapshot notes himself as well: a machine that he has
//! left standing, because he was killed, goes on when somebody looks at it next.
//!
//! Firecracker ends all connections of a guest of which it makes a snapshot. As long as a note is
//! there, the supervisor takes the end of its channel for that, and reaches the agent once more.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::thread;
use std::time::{Duration, Instant};

use smolvm_fork::Unshared;
use smolvm_protocol::Nonce;
use smolvm_supervisor::state::Process;

use crate::backend::Backend;
use crate::error::VmError;
use crate::id::VmId;
use crate::places::VmDirs;
use crate::session::Session;
use crate::supervisor;

/// The note of a machine, locked: only one program at a time pauses it, lets it go on, or makes a
/// snapshot of it.
#[derive(Debug)]
pub(crate) struct Note {
    file: Unshared<File>,
    dirs: VmDirs,
}

/// What a note says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Noted {
    /// The VMM that is paused.
    vmm: Process,
    /// Who makes a snapshot, and lets it go on when that is done.
    by: Option<Process>,
    /// Whether a snapshot was made since, which may have ended the guest's connections.
    is_saved: bool,
}

/// What is in the place of who makes a snapshot where one was made.
const SAVED: &str = "saved";

/// The note of a machine that goes on from a snapshot, until its agent has answered. It is of no
/// VMM, and means something to the supervisor alone.
const RESTORED: &str = "restored\n";

/// How long a VMM may take to stop its guest's processors or have them go on.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long an agent may take to be reached again.
const REACHED: Duration = Duration::from_secs(20);

/// How long an agent answers on a channel that has not ended.
const SETTLED: Duration = Duration::from_secs(2);

impl Note {
    /// Takes the note of a machine; waits until nobody else has it.
    pub(crate) fn take(dirs: &VmDirs) -> Result<Self, VmError> {
        let path = dirs.paused();
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(&path).map(Unshared::new);
        let locked = file.and_then(|file| file.lock().map(|()| file));
        let file = locked.map_err(|error| VmError::io(&path, "lock", error))?;
        Ok(Self { file, dirs: dirs.clone() })
    }

    /// Stops the machine's processors, where they are not; returns whether they ran. `is_for_now`:
    /// this process lets them go on in any case.
    pub(crate) fn pause(
        &mut self,
        id: &VmId,
        backend: Backend,
        is_for_now: bool,
    ) -> Result<bool, VmError> {
        let vmm = supervisor::vmm(&self.dirs.state).ok_or_else(|| VmError::NotRunning {
            id: id.to_string(),
            state: crate::state::VmState::of(supervisor::status(&self.dirs.state)),
        })?;
        let noted = Noted::read(&self.dirs).filter(|noted| noted.vmm == vmm && noted.by.is_none());
        if let Some(noted) = noted {
            let is_saved = noted.is_saved || is_for_now;
            self.note(Some(Noted { is_saved, ..noted }))?;
            return Ok(false);
        }
        let by = is_for_now.then(|| Process::find(std::process::id())).flatten();
        self.note(Some(Noted { vmm, by, is_saved: false }))?;
        backend.pause(&self.dirs, Instant::now() + PATIENCE).map_err(|reason| {
            // It may have stopped although it did not say so in time.
            let _ = self.resume(id, backend);
            VmError::Vmm { id: id.to_string(), action: "paused", reason }
        })?;
        Ok(true)
    }

    /// Lets the machine's processors go on, whether they stand still or not; its agent is reached
    /// when this returns, if it was before.
    pub(crate) fn resume(&mut self, id: &VmId, backend: Backend) -> Result<(), VmError> {
        let noted = Noted::read(&self.dirs);
        let may_be_saved = noted.is_some_and(|noted| noted.by.is_some() || noted.is_saved);
        let before = supervisor::session(&self.dirs.state);
        let resumed = backend.resume(&self.dirs, Instant::now() + PATIENCE);
        resumed.map_err(|reason| VmError::Vmm { id: id.to_string(), action: "resumed", reason })?;
        if let Some(before) = before
            && may_be_saved
            && backend == Backend::Firecracker
        {
            self.reach_again(id, before);
        }
        self.note(None)
    }

    /// Has the supervisor find out whether its channel has ended, and reach the agent anew: it is
    /// the guest alone that is told, so that something has to be said to it. `before` is the session
    /// that there was.
    fn reach_again(&self, id: &VmId, before: Nonce) {
        let deadline = Instant::now() + REACHED;
        let mut answers_since = None;
        while Instant::now() < deadline {
            let soon = Instant::now() + Duration::from_secs(1);
            let answered = Session::connect(&self.dirs.agent_socket(), soon.min(deadline))
                .and_then(|session| session.ping());
            if answered.is_err() {
                answers_since = None;
            } else if supervisor::session(&self.dirs.state) != Some(before)
                || answers_since.get_or_insert_with(Instant::now).elapsed() >= SETTLED
            {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        log::warn!("the agent of the VM '{id}' does not answer after a snapshot");
    }

    /// Notes that the machine goes on from a snapshot, with an agent that may be lost at first.
    pub(crate) fn restored(&mut self) -> Result<(), VmError> {
        self.write(RESTORED)
    }

    /// Removes what was noted of the machine.
    pub(crate) fn clear(&mut self) -> Result<(), VmError> {
        self.note(None)
    }

    fn note(&mut self, noted: Option<Noted>) -> Result<(), VmError> {
        self.write(&noted.map(Noted::encode).unwrap_or_default())
    }

    fn write(&mut self, text: &str) -> Result<(), VmError> {
        // What is read at any moment is the old note, or the new one.
        let written = self.file.write_all_at(text.as_bytes(), 0);
        let written = written.and_then(|()| self.file.set_len(text.len() as u64));
        written.map_err(|error| VmError::io(&self.dirs.paused(), "write", error))
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        // To close it would not do: a child that is being started has it open, too.
        let _ = self.file.unlock();
    }
}

/// Whether a machine that runs is paused until somebody resumes it. One that a program has left
/// standing that is no more goes on.
pub(crate) fn is_paused(id: &VmId, dirs: &VmDirs, backend: Backend) -> bool {
    let Some(noted) = Noted::read(dirs) else { return false };
    if supervisor::vmm(&dirs.state) != Some(noted.vmm) {
        return false;
    }
    let Some(by) = noted.by else { return true };
    if !by.is_alive() {
        let resumed = Note::take(dirs).and_then(|mut note| {
            // Somebody else may have been faster, and begun something of his own.
            if Noted::read(dirs) == Some(noted) { note.resume(id, backend) } else { Ok(()) }
        });
        if let Err(error) = resumed {
            log::warn!("the program that made a snapshot of the VM '{id}' was killed: {error}");
            return true;
        }
    }
    false
}

impl Noted {
    fn read(dirs: &VmDirs) -> Option<Self> {
        let mut text = String::new();
        File::open(dirs.paused()).ok()?.read_to_string(&mut text).ok()?;
        let mut lines = text.lines();
        let vmm = Process::parse(lines.next()?)?;
        let by = lines.next();
        let is_saved = by == Some(SAVED);
        let by = by.filter(|_| !is_saved).map(Process::parse);
        // Half a note is one of somebody who is writing it.
        let is_whole = by.is_none_or(|by| by.is_some());
        is_whole.then_some(Self { vmm, by: by.flatten(), is_saved })
    }

    fn encode(self) -> String {
        let by = self.by.map(Process::encode).or(self.is_saved.then(|| SAVED.to_owned()));
        let by = by.map(|by| format!("{by}\n")).unwrap_or_default();
        format!("{}\n{by}", self.vmm.encode())
    }
}
