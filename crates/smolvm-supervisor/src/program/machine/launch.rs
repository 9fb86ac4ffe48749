//! A launch under way: the programs beside the VMM are started one after the other, each when the
//! one before it listens; then it is the VMM's turn.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::child::Child;
use super::listening::is_listening;
use crate::control::Program;

/// A launch under way.
pub(crate) struct Launch {
    helpers: VecDeque<Program>,
    /// What comes last.
    pub(crate) vmm: Program,
    waiting: Option<(PathBuf, Instant)>,
}

/// How far a launch is.
pub(crate) enum Progress {
    /// Look again after [`LOOK_AGAIN`].
    Waiting,
    /// All programs beside the VMM are ready.
    Ready,
}

/// How often it is looked whether a program listens.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// How long a program may take until it listens. On an emulated host that loads drivers for it, five
/// seconds are not enough.
const TIMEOUT: Duration = Duration::from_secs(15);

impl Launch {
    /// A launch of these programs, of which the last is the VMM. `None` where there is none.
    pub(crate) fn new(programs: Vec<Program>) -> Option<Self> {
        let mut helpers = VecDeque::from(programs);
        let vmm = helpers.pop_back()?;
        Some(Self { helpers, vmm, waiting: None })
    }

    /// Goes on as far as it can without waiting; adds to `started` what it starts.
    pub(crate) fn proceed(&mut self, started: &mut Vec<Child>) -> Result<Progress, String> {
        loop {
            if let (Some((socket, since)), Some(helper)) = (&self.waiting, started.last_mut()) {
                if !is_listening(socket) {
                    if let Some(status) = helper.ended() {
                        return Err(format!("{} ended early ({status})", helper.name));
                    }
                    if since.elapsed() > TIMEOUT {
                        let (name, path) = (&helper.name, socket.display());
                        return Err(format!(
                            "{name} does not listen on {path} after {} seconds",
                            TIMEOUT.as_secs()
                        ));
                    }
                    return Ok(Progress::Waiting);
                }
                self.waiting = None;
            }
            let Some(program) = self.helpers.pop_front() else {
                return Ok(Progress::Ready);
            };
            started.push(Child::helper(&program).map_err(|error| cannot_start(&program, &error))?);
            self.waiting = program.socket.map(|socket| (socket, Instant::now()));
        }
    }
}

/// Says that a program did not start.
pub(crate) fn cannot_start(program: &Program, error: &std::io::Error) -> String {
    let name = program.arguments.first().map(|name| name.to_string_lossy());
    format!("cannot start {}: {error}", name.unwrap_or_default())
}
