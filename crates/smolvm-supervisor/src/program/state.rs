//! The file `state` in a VM's directory, by which other processes see how it is: lines of
//! `key=value`, written anew as a whole each time.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use smolvm_protocol::Nonce;

use super::control::How;
use super::hex;

/// The name of the file.
pub const FILE: &str = "state";
/// The name of the file whose lock the supervisor holds while it lives.
pub const LOCK: &str = "lock";
/// The name of the file that is there when the VM stays without its owner.
pub const DETACHED: &str = "detached";
/// The name of the file that its maker writes last: without it a VM is half made.
pub const RECORD: &str = "config.json";
/// The name of the lock beside the VMs' directories, under which they are made and removed.
pub const GLOBAL_LOCK: &str = ".lock";
/// What the name of a VM's directory begins with while it is being removed.
pub const GONE: &str = ".gone-";
/// What the guest and its kernel said.
pub const CONSOLE_LOG: &str = "console.log";
/// What the VMM and the programs beside it said.
pub const VMM_LOG: &str = "vmm.log";
/// The name of the file that holds something while the VM stands still.
pub const PAUSED: &str = "paused";
/// The name of the socket in the runtime directory on which the agent is reached.
pub const AGENT_SOCKET: &str = "agent.sock";

/// How a VM is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// What it does.
    pub status: Status,
    /// The process that supervises it.
    pub supervisor: Process,
    /// The directory of its sockets.
    pub runtime: PathBuf,
    /// The programs beside the VMM.
    pub helpers: Vec<Process>,
    /// When the VMM was last started, in seconds since 1970.
    pub started: Option<u64>,
    /// How it stands with the agent in the guest.
    pub agent: Agent,
    /// The nonce of the session with the agent, once there is one.
    pub session: Option<Nonce>,
}

/// What a VM does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It has not been started.
    Created,
    /// Its VMM runs, as this process.
    Running(Process),
    /// Its VMM has ended.
    Ended {
        /// How it ended.
        how: How,
        /// When, in seconds since 1970.
        at: u64,
    },
}

/// How it stands with the agent in the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Agent {
    /// It has not answered yet.
    Awaited,
    /// It answers.
    Ready,
    /// It is not spoken with any more, for this reason.
    Lost(String),
}

/// A process, told from a later one of the same number by when it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// When it started, in clock ticks since the host's boot.
    pub start_time: u64,
}

impl State {
    /// Reads the state of the VM with this directory. `None` where there is none, or none that
    /// this version understands.
    pub fn read(directory: &Path) -> io::Result<Option<Self>> {
        match fs::read(directory.join(FILE)) {
            Ok(text) => Ok(Self::parse(&text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes it for the VM with this directory; readers see the old state or this one.
    pub fn write(&self, directory: &Path) -> io::Result<()> {
        let new = directory.join("state.new");
        File::create(&new)?.write_all(&self.encode())?;
        fs::rename(new, directory.join(FILE))
    }

    fn encode(&self) -> Vec<u8> {
        let mut text = Vec::new();
        let mut line = |key: &str, value: &[u8]| {
            text.extend_from_slice(key.as_bytes());
            text.push(b'=');
            text.extend(value.iter().map(|&byte| if byte == b'\n' { b' ' } else { byte }));
            text.push(b'\n');
        };
        match self.status {
            Status::Created => line("status", b"created"),
            Status::Running(process) => {
                line("status", b"running");
                line("vmm", process.encode().as_bytes());
            }
            Status::Ended { how, at } => {
                line("status", b"ended");
                line("how", how.to_string().as_bytes());
                line("ended", at.to_string().as_bytes());
            }
        }
        line("supervisor", self.supervisor.encode().as_bytes());
        line("runtime", self.runtime.as_os_str().as_bytes());
        for helper in &self.helpers {
            line("helper", helper.encode().as_bytes());
        }
        if let Some(started) = self.started {
            line("started", started.to_string().as_bytes());
        }
        match &self.agent {
            Agent::Awaited => line("agent", b"awaited"),
            Agent::Ready => line("agent", b"ready"),
            Agent::Lost(why) => line("agent", format!("lost: {why}").as_bytes()),
        }
        if let Some(nonce) = &self.session {
            line("session", hex::encode(nonce).as_bytes());
        }
        text
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let values = |key: &'static str| {
            text.split(|&byte| byte == b'\n')
                .filter_map(move |line| line.strip_prefix(key.as_bytes())?.strip_prefix(b"="))
        };
        let value = |key| std::str::from_utf8(values(key).next()?).ok();
        let status = match value("status")? {
            "created" => Status::Created,
            "running" => Status::Running(Process::parse(value("vmm")?)?),
            "ended" => Status::Ended {
                how: value("how")?.parse().ok()?,
                at: value("ended")?.parse().ok()?,
            },
            _ => return None,
        };
        let agent = match value("agent")? {
            "awaited" => Agent::Awaited,
            "ready" => Agent::Ready,
            other => Agent::Lost(other.strip_prefix("lost: ")?.to_owned()),
        };
        Some(Self {
            status,
            supervisor: Process::parse(value("supervisor")?)?,
            runtime: OsString::from_vec(values("runtime").next()?.to_vec()).into(),
            helpers: values("helper")
                .filter_map(|helper| Process::parse(std::str::from_utf8(helper).ok()?))
                .collect(),
            started: value("started").and_then(|started| started.parse().ok()),
            agent,
            session: value("session").and_then(hex::decode),
        })
    }
}

impl Process {
    /// The process that has this number now, if any has.
    #[must_use]
    pub fn find(pid: u32) -> Option<Self> {
        Self::look(pid).map(|(process, _)| process)
    }

    /// Whether it still runs. One that has ended and was not waited for does not.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        Self::look(self.pid).is_some_and(|(process, state)| {
            process == *self && !matches!(state.as_str(), "Z" | "X")
        })
    }

    /// The process with this number, and the letter of its state; see `proc_pid_stat(5)`.
    fn look(pid: u32) -> Option<(Self, String)> {
        let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
        // The second field is the program's name in parentheses, which may hold anything.
        let name_end = stat.iter().rposition(|&byte| byte == b')')?;
        let mut fields = std::str::from_utf8(&stat[name_end + 1..]).ok()?.split_ascii_whitespace();
        let state = fields.next()?.to_owned();
        let start_time = fields.nth(18)?.parse().ok()?;
        Some((Self { pid, start_time }, state))
    }

    /// Its form in the file.
    #[must_use]
    pub fn encode(self) -> String {
        format!("{} {}", self.pid, self.start_time)
    }

    /// Reads what [`encode`](Self::encode) has written.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (pid, start_time) = text.split_once(' ')?;
        Some(Self { pid: pid.parse().ok()?, start_time: start_time.parse().ok()? })
    }
}

/// The time, in seconds since 1970.
#[must_use]
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
