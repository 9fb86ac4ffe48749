//! [`Port`]: the virtio-serial port that leads to the host.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use smolvm_protocol::PORT_NAME;

use crate::boot::console;

/// Whether the guest has the port, and whether somebody is at its other end.
#[derive(Debug)]
pub(super) struct Port {
    state: State,
    /// What was last said about it on the console.
    noted: Option<String>,
}

#[derive(Debug)]
enum State {
    /// It is looked for at this time.
    Awaited { since: Instant, next: Instant },
    /// It is open.
    Connected,
    /// It is open, but nobody is at the other end; it is looked at again at this time. (Waiting
    /// for it would not wait: that nobody is there counts as an event.)
    Unconnected { next: Instant },
}

/// A driver that is loaded needs a moment to find its ports. After that the agent is perhaps
/// reached by other ways.
const SOON: Duration = Duration::from_secs(5);
const OFTEN: Duration = Duration::from_millis(2);
const SELDOM: Duration = Duration::from_secs(1);

/// How often a port without a host is looked at.
const RECONNECT: Duration = Duration::from_millis(20);

impl Port {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self { state: State::Awaited { since: now, next: now }, noted: None }
    }

    /// Opens it, when it has appeared.
    pub(super) fn open(&mut self) -> Option<File> {
        let now = Instant::now();
        let State::Awaited { since, next } = &mut self.state else {
            return None;
        };
        if *next > now {
            return None;
        }
        let soon = now.duration_since(*since) < SOON;
        *next = now + if soon { OFTEN } else { SELDOM };
        match open() {
            Ok(Some(port)) => {
                self.state = State::Connected;
                return Some(port);
            }
            Ok(None) => {}
            Err(error) => self.note(format!("cannot open the port to the host: {error}")),
        }
        None
    }

    /// Whether somebody may be at the other end.
    pub(super) fn is_connected(&self) -> bool {
        match self.state {
            State::Awaited { .. } => false,
            State::Connected => true,
            State::Unconnected { next } => next <= Instant::now(),
        }
    }

    /// Nobody is at the other end.
    pub(super) fn hung_up(&mut self) {
        self.state = State::Unconnected { next: Instant::now() + RECONNECT };
    }

    /// When it is to be looked at again.
    pub(super) fn wakes_at(&self) -> Option<Instant> {
        match self.state {
            State::Connected => None,
            State::Awaited { next, .. } | State::Unconnected { next } => Some(next),
        }
    }

    /// Says something once.
    fn note(&mut self, message: String) {
        if self.noted.as_ref() != Some(&message) {
            console::note(&message);
            self.noted = Some(message);
        }
    }
}

/// Opens the port, if the guest has it.
fn open() -> io::Result<Option<File>> {
    const O_NONBLOCK: i32 = 0o4000;
    match find()? {
        None => Ok(None),
        Some(device) => {
            let mut options = OpenOptions::new();
            options.read(true).write(true).custom_flags(O_NONBLOCK).open(device).map(Some)
        }
    }
}

/// The device of the port. Without the driver, or before it has found any port, there is none.
fn find() -> io::Result<Option<PathBuf>> {
    let Ok(ports) = fs::read_dir("/sys/class/virtio-ports") else {
        return Ok(None);
    };
    for port in ports {
        let port = port?;
        // Not every port has a name.
        let name = fs::read_to_string(port.path().join("name")).unwrap_or_default();
        if name.trim_end() == PORT_NAME {
            return Ok(Some(PathBuf::from("/dev").join(port.file_name())));
        }
    }
    Ok(None)
}
