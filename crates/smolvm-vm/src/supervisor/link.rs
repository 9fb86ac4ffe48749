//! The connection to a supervisor that this process has started: a thread that hears what it says
//! and sees it end.

use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::process::Child;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use smolvm_fork::Unshared;
use smolvm_supervisor::control::{How, Messages, Order, Report};

use super::error::SupervisorError;

/// The connection to one supervisor.
#[derive(Debug)]
pub(super) struct Link {
    /// A forked child does not have it: the machine ends with this process, not with that.
    control: Unshared<UnixStream>,
    shared: Arc<Shared>,
    /// Orders that are answered are given one after the other.
    turn: Mutex<()>,
}

#[derive(Debug, Default)]
struct Shared {
    heard: Mutex<Heard>,
    news: Condvar,
}

/// What the supervisor has said.
#[derive(Debug, Default)]
struct Heard {
    /// The answer to the last order.
    answer: Option<Report>,
    /// Whether a launch was ordered and not answered.
    is_launching: bool,
    /// Whether the VMM runs.
    is_running: bool,
    /// How the VMM ended last.
    ended: Option<How>,
    /// Whether it will say nothing more.
    is_silent: bool,
    /// Whether its process has ended and was waited for; how.
    gone: Option<String>,
}

impl Link {
    /// Listens to the supervisor `child` at the other end of `control`.
    pub(super) fn new(control: UnixStream, child: Child) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let (hears, reader) = (Arc::clone(&shared), Unshared::new(control.try_clone()?));
        thread::Builder::new()
            .name("smolvm-supervisor".into())
            .stack_size(128 * 1024)
            .spawn(move || listen(&reader, child, &hears))?;
        Ok(Self { control: Unshared::new(control), shared, turn: Mutex::default() })
    }

    /// Waits for what the supervisor says first.
    pub(super) fn first(&self, timeout: Duration) -> Result<Report, SupervisorError> {
        self.wait(timeout, |heard| heard.answer.take())
    }

    /// Gives an order and waits for its answer.
    pub(super) fn ask(&self, order: &Order, timeout: Duration) -> Result<Report, SupervisorError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        {
            let mut heard = self.heard();
            heard.answer = None;
            if matches!(order, Order::Launch(_)) {
                heard.is_launching = true;
                heard.ended = None;
            }
        }
        self.tell(order)?;
        self.wait(timeout, |heard| heard.answer.take())
    }

    /// Has the VMM ended and waits until it has, if it runs.
    pub(super) fn kill(&self, timeout: Duration) -> Result<(), SupervisorError> {
        let runs = |heard: &Heard| heard.is_running || heard.is_launching;
        if !runs(&self.heard()) {
            return Ok(());
        }
        self.tell(&Order::Kill)?;
        self.wait(timeout, |heard| (!runs(heard)).then_some(()))
    }

    /// Waits until the VMM has ended. `None`: it has not, or was not started.
    pub(super) fn wait_ended(&self, timeout: Duration) -> Option<How> {
        self.wait(timeout, |heard| heard.ended).ok()
    }

    /// Waits until the supervisor's process is gone.
    pub(super) fn wait_gone(&self, timeout: Duration) -> bool {
        self.shared
            .news
            .wait_timeout_while(self.heard(), timeout, |heard| heard.gone.is_none())
            .is_ok_and(|(heard, _)| heard.gone.is_some())
    }

    /// Ends the connection; whatever copies of it other processes have.
    pub(super) fn close(&self) {
        let _ = self.control.shutdown(Shutdown::Both);
    }

    fn tell(&self, order: &Order) -> Result<(), SupervisorError> {
        // One that is gone is no news to who reads it, and the reader tells how it went.
        match (&*self.control).write_all(&order.encode()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(SupervisorError::Failed(format!("cannot reach the VM's supervisor: {error}")))
            }
            _ => Ok(()),
        }
    }

    /// Waits until `look` finds what it looks for.
    fn wait<T>(
        &self,
        timeout: Duration,
        mut look: impl FnMut(&mut Heard) -> Option<T>,
    ) -> Result<T, SupervisorError> {
        let deadline = Instant::now() + timeout;
        let mut heard = self.heard();
        loop {
            if let Some(found) = look(&mut heard) {
                return Ok(found);
            }
            if heard.is_silent && (heard.gone.is_some() || Instant::now() >= deadline) {
                return Err(SupervisorError::Gone { how: heard.gone.clone() });
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(SupervisorError::Silent(timeout));
            }
            let woken = self.shared.news.wait_timeout(heard, left);
            heard = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.shared.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn change(&self, change: impl FnOnce(&mut Heard)) {
        change(&mut self.heard.lock().unwrap_or_else(PoisonError::into_inner));
        self.news.notify_all();
    }
}

impl Heard {
    fn take(&mut self, report: Report) {
        match report {
            Report::Ended(how) => {
                self.ended = Some(how);
                self.is_running = false;
                return;
            }
            Report::Launched(_) => self.is_running = true,
            _ => {}
        }
        self.is_launching = false;
        self.answer = Some(report);
    }
}

/// Hears what the supervisor says until it has ended, and waits for its process, so that none is
/// left behind.
fn listen(mut control: &UnixStream, mut child: Child, shared: &Shared) {
    let mut messages = Messages::default();
    let mut buffer = [0; 4096];
    loop {
        match control.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => break,
            Ok(count) => messages.push(&buffer[..count]),
        }
        while let Ok(Some(report)) = messages.next_report() {
            shared.change(|heard| heard.take(report));
        }
    }
    shared.change(|heard| {
        heard.is_silent = true;
        heard.is_running = false;
        heard.is_launching = false;
    });
    let how = match child.wait() {
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    };
    shared.change(|heard| heard.gone = Some(how));
}
