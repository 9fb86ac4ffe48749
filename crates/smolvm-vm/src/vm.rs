//! [`SmolVm`] and [`Vm`]: a virtual machine, from its making to its end.

use std::io::Read;
use std::net::IpAddr;
use std::ops::Deref;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use smolvm_image::CancelToken;

use crate::assets::Assets;
use crate::backend::Backend;
use crate::boot::{self, Origin};
use crate::config::VmConfig;
use crate::console;
use crate::create;
use crate::error::VmError;
use crate::id::VmId;
use crate::pause::{self, Note};
use crate::places::VmDirs;
use crate::record::Record;
use crate::session::{Command, CommandResult, Forward, Process, Session, SessionError};
use crate::state::{VmInfo, VmState};
use crate::stop;
use crate::supervisor::{self, Supervisor};

/// A virtual machine that boots an image and runs commands in it.
///
/// It is made by [`new`](Self::new) and does nothing before [`start`](Self::start). When the last
/// of it in the program that made it is dropped, or that program ends by whatever means, the
/// machine is ended and everything that it had is removed, unless it is
/// [detached](VmConfig::detached).
///
/// ```no_run
/// use smolvm_vm::{SmolVm, VmConfig};
///
/// let vm = SmolVm::new(VmConfig::new("vmlinux.bin", "rootfs.ext4"))?;
/// vm.start()?;
/// let result = vm.run("uname -r; exit 3")?;
/// assert_eq!(result.exit_code, 3);
/// vm.delete()?;
/// # Ok::<(), smolvm_vm::VmError>(())
/// ```
///
/// All calls can be made from many threads at once.
#[derive(Debug)]
pub struct SmolVm {
    pub(crate) id: VmId,
    pub(crate) dirs: VmDirs,
    /// What runs it.
    pub(crate) backend: Backend,
    /// The environment of every command.
    pub(crate) env: Vec<(String, String)>,
    /// What is started, stopped and removed by one thread at a time.
    pub(crate) machine: Mutex<Machine>,
    /// The connection to the agent, once there is one.
    pub(crate) session: Mutex<Option<Session>>,
}

/// What a program has of a machine.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) record: Record,
    /// The process beside the machine, where this program started it.
    pub(crate) supervisor: Option<Supervisor>,
    /// What it boots from, where this program has opened it.
    pub(crate) assets: Option<Assets>,
}

/// A virtual machine that was started when it was made. It is ended and removed when this is
/// dropped.
///
/// ```no_run
/// use smolvm_vm::{Vm, VmConfig};
///
/// let vm = Vm::boot(VmConfig::new("vmlinux.bin", "rootfs.ext4"))?;
/// println!("VM started with IP: {}", vm.get_ip()?);
/// println!("Output: {}", vm.run("echo 'Hello from SmolVM!'")?.stdout().trim());
/// # Ok::<(), smolvm_vm::VmError>(())
/// ```
#[derive(Debug)]
pub struct Vm(SmolVm);

/// How long a machine may take to boot where nothing else is said.
pub const DEFAULT_BOOT_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a guest may take to end in order where nothing else is said.
pub const DEFAULT_STOP_TIMEOUT: Duration = Duration::from_secs(3);

/// How long the agent of a running machine may take to answer a new connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

impl Vm {
    /// Makes a machine and starts it, within [`DEFAULT_BOOT_TIMEOUT`].
    ///
    /// # Errors
    /// As [`SmolVm::new`] and [`SmolVm::start`].
    pub fn boot(config: VmConfig) -> Result<Self, VmError> {
        Self::boot_within(config, DEFAULT_BOOT_TIMEOUT)
    }

    /// As [`boot`](Self::boot), within another time.
    ///
    /// # Errors
    /// As [`boot`](Self::boot).
    pub fn boot_within(config: VmConfig, boot_timeout: Duration) -> Result<Self, VmError> {
        let vm = SmolVm::new(config)?;
        vm.start_within(boot_timeout)?;
        Ok(Self(vm))
    }
}

impl Vm {
    /// One that was started otherwise.
    pub(crate) fn of(vm: SmolVm) -> Self {
        Self(vm)
    }
}

impl Deref for Vm {
    type Target = SmolVm;

    fn deref(&self) -> &SmolVm {
        &self.0
    }
}

impl SmolVm {
    /// Makes a machine: its directory, its disk, and the process that looks after it. The kernel
    /// is looked at, so that what cannot boot is refused here.
    ///
    /// # Errors
    /// [`VmError::AlreadyExists`] where another machine has the id; else what is wrong with the
    /// configuration, the image or this host.
    pub fn new(config: VmConfig) -> Result<Self, VmError> {
        create::create(config)
    }

    /// The machine of this id that another program has made, in `~/.smolvm/vms`.
    ///
    /// # Errors
    /// [`VmError::NotFound`].
    pub fn from_id(id: &str) -> Result<Self, VmError> {
        crate::vms::Vms::new()?.open(id)
    }

    /// The name of the machine.
    #[must_use]
    pub fn id(&self) -> &str {
        self.id.as_str()
    }

    /// The directory with the machine's files.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.dirs.state
    }

    /// Boots the machine; returns when it runs commands, within [`DEFAULT_BOOT_TIMEOUT`]. Does
    /// nothing where it runs already.
    ///
    /// # Errors
    /// As [`start_within`](Self::start_within).
    pub fn start(&self) -> Result<(), VmError> {
        self.start_within(DEFAULT_BOOT_TIMEOUT)
    }

    /// As [`start`](Self::start), within another time. Waiting for other machines of this user
    /// that boot is not counted.
    ///
    /// # Errors
    /// [`VmError::BootTimeout`] or [`VmError::BootFailed`] with the end of the console;
    /// [`VmError::NotOwner`] where another program has made the machine and still runs.
    pub fn start_within(&self, boot_timeout: Duration) -> Result<(), VmError> {
        self.start_unless(boot_timeout, &CancelToken::new())
    }

    pub(crate) fn start_unless(
        &self,
        boot_timeout: Duration,
        cancel: &CancelToken,
    ) -> Result<(), VmError> {
        let mut machine = self.machine();
        match self.state() {
            VmState::Running => return Ok(()),
            state @ VmState::Paused => return Err(self.not_running(state)),
            _ => {}
        }
        *self.current_session() = None;
        let session = boot::boot(self, &mut machine, Origin::Kernel, boot_timeout, cancel)?;
        self.keep_session(session);
        Ok(())
    }

    /// Ends the guest in order, within [`DEFAULT_STOP_TIMEOUT`]; then by force. Does nothing where
    /// it does not run; one that is paused goes on for that. It can be started again, with its disk as it is.
    ///
    /// # Errors
    /// [`VmError::Supervisor`] where not even force ends it.
    pub fn stop(&self) -> Result<(), VmError> {
        self.stop_within(DEFAULT_STOP_TIMEOUT)
    }

    /// As [`stop`](Self::stop), with another time for the guest to end in order.
    ///
    /// # Errors
    /// As [`stop`](Self::stop).
    pub fn stop_within(&self, timeout: Duration) -> Result<(), VmError> {
        let machine = self.machine();
        match self.state() {
            VmState::Running => {}
            // It cannot end in order while it stands still.
            VmState::Paused => drop(Note::take(&self.dirs)?.resume(&self.id, self.backend)),
            _ => return Ok(()),
        }
        let session = self.session().ok();
        *self.current_session() = None;
        stop::stop(self, &machine, session.as_ref(), timeout)
    }

    /// Ends the machine at once and removes all that it had.
    ///
    /// # Errors
    /// [`VmError::Supervisor`] or [`VmError::Io`] where something is left.
    pub fn delete(&self) -> Result<(), VmError> {
        *self.current_session() = None;
        stop::delete(self, &mut self.machine())
    }

    /// How the machine does.
    #[must_use]
    pub fn status(&self) -> VmState {
        self.state()
    }

    /// What is known of the machine.
    #[must_use]
    pub fn info(&self) -> VmInfo {
        let machine = self.machine();
        crate::vms::info(&machine.record, &self.dirs)
    }

    /// The guest's address.
    ///
    /// # Errors
    /// [`VmError::NotRunning`], or [`VmError::NoAddress`] where it has no network.
    pub fn get_ip(&self) -> Result<IpAddr, VmError> {
        match self.state() {
            VmState::Running | VmState::Paused => {}
            state => return Err(self.not_running(state)),
        }
        self.machine().record.address.ok_or_else(|| VmError::NoAddress { id: self.id.to_string() })
    }

    /// What the guest's console has said, the last MiB or two of it.
    #[must_use]
    pub fn console_log(&self) -> Vec<u8> {
        console::whole(&self.dirs.console())
    }

    /// Runs a command and returns what became of it: a text is a line for the guest's shell, a
    /// list is a program and its arguments.
    ///
    /// ```no_run
    /// # use smolvm_vm::{Command, Vm, VmConfig};
    /// # let vm = Vm::boot(VmConfig::new("vmlinux.bin", "rootfs.ext4"))?;
    /// vm.run("echo $HOME | wc -c")?;
    /// vm.run(["ls", "-l", "/a file"])?;
    /// vm.run(Command::shell("cat").stdin("what cat reads").user("nobody"))?;
    /// # Ok::<(), smolvm_vm::VmError>(())
    /// ```
    ///
    /// # Errors
    /// [`VmError::NotRunning`]; [`VmError::Session`] where the command cannot be started, takes
    /// longer than its timeout (30 s where nothing else is said) or writes more than its limit
    /// (64 MiB). A command that fails is no error.
    pub fn run(&self, command: impl Into<Command>) -> Result<CommandResult, VmError> {
        let command = self.with_env(command.into());
        self.session()?.run(&command).map_err(|source| self.session_error(source))
    }

    /// As [`run`](Self::run), with what `input` gives as standard input, as it comes. It is read in
    /// a thread of its own, which goes on after the command's end until the reading returns.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn run_with_stdin(
        &self,
        command: impl Into<Command>,
        input: impl Read + Send + 'static,
    ) -> Result<CommandResult, VmError> {
        let command = self.with_env(command.into());
        let result = self.session()?.run_with_stdin(&command, input);
        result.map_err(|source| self.session_error(source))
    }

    /// Starts a command and returns its streams, which are read and written as they come.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn popen(&self, command: impl Into<Command>) -> Result<Process, VmError> {
        let command = self.with_env(command.into());
        self.session()?.spawn(&command).map_err(|source| self.session_error(source))
    }

    /// Waits until the image's own init has started what it starts, where it has one that tells.
    ///
    /// # Errors
    /// [`VmError::Session`] where that takes longer than `timeout`.
    pub fn wait_ready(&self, timeout: Duration) -> Result<(), VmError> {
        self.session()?.settle(timeout).map_err(|source| self.session_error(source))
    }

    /// Copies a file or directory of this host into the guest.
    ///
    /// # Errors
    /// [`VmError::Session`], naming what could not be copied.
    pub fn copy_to(&self, host: impl AsRef<Path>, guest: impl AsRef<Path>) -> Result<(), VmError> {
        let copied = self.session()?.copy_to(host.as_ref(), guest.as_ref());
        copied.map_err(|source| self.session_error(source))
    }

    /// Copies a file or directory of the guest to this host. Nothing is written outside `host`,
    /// whatever the guest says.
    ///
    /// # Errors
    /// [`VmError::Session`], naming what could not be copied.
    pub fn copy_from(
        &self,
        guest: impl AsRef<Path>,
        host: impl AsRef<Path>,
    ) -> Result<(), VmError> {
        let copied = self.session()?.copy_from(guest.as_ref(), host.as_ref());
        copied.map_err(|source| self.session_error(source))
    }

    /// Opens a port of this host's loopback that leads to a TCP port of the guest, until what is
    /// returned is dropped. Without a `host_port` any free one is taken.
    ///
    /// # Errors
    /// [`VmError::Session`] where the port is taken.
    pub fn forward(&self, guest_port: u16, host_port: Option<u16>) -> Result<Forward, VmError> {
        let forward = self.session()?.forward(guest_port, host_port);
        forward.map_err(|source| self.session_error(source))
    }

    pub(crate) fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn current_session(&self) -> MutexGuard<'_, Option<Session>> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn session_error(&self, source: SessionError) -> VmError {
        VmError::Session { id: self.id.to_string(), source }
    }

    /// Takes a session for the calls that follow.
    pub(crate) fn keep_session(&self, session: Session) {
        *self.current_session() = Some(session);
    }

    /// The session, whose calls end once the token is cancelled.
    pub(crate) fn session_unless(&self, cancel: &CancelToken) -> Result<Session, VmError> {
        Ok(self.connected(cancel)?.cancelled_by(cancel))
    }

    pub(crate) fn session(&self) -> Result<Session, VmError> {
        self.connected(&CancelToken::new())
    }

    /// The connection to the agent, made anew where it has ended.
    fn connected(&self, cancel: &CancelToken) -> Result<Session, VmError> {
        // A session stays open while the guest stands still.
        if pause::is_paused(&self.id, &self.dirs, self.backend) {
            return Err(self.not_running(VmState::Paused));
        }
        let mut current = self.current_session();
        if let Some(session) = current.as_ref().filter(|session| session.is_open()) {
            return Ok(session.clone());
        }
        let state = self.state();
        if state != VmState::Running {
            return Err(self.not_running(state));
        }
        let deadline = Instant::now() + CONNECT_TIMEOUT;
        let session = Session::connect_unless(&self.dirs.agent_socket(), deadline, cancel)
            .map_err(|source| self.session_error(source))?;
        *current = Some(session.clone());
        Ok(session)
    }

    pub(crate) fn with_env(&self, command: Command) -> Command {
        self.env.iter().fold(command, |command, (name, value)| command.default_env(name, value))
    }

    pub(crate) fn state(&self) -> VmState {
        // Its owner has ended, or somebody has removed it.
        if !self.dirs.state.exists() {
            return VmState::Stopped;
        }
        let status = supervisor::status(&self.dirs.state);
        VmState::of_machine(&self.id, &self.dirs, self.backend, status)
    }

    pub(crate) fn not_running(&self, state: VmState) -> VmError {
        VmError::NotRunning { id: self.id.to_string(), state }
    }
}
