//! A virtual machine.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::mem;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use smolvm::{
    CancelToken, Command, CommandResult, Digest, DigestError, Forward, RestoreConfig, SmolVm,
    Snapshot, VmError, VmInfo, Vms,
};

use crate::call::{self, Cancel};
use crate::errors;
use crate::here::Here;
use crate::machine_config::{ConfigFields, configuration};
use crate::process::Process;
use crate::seconds::seconds;

/// What to run, as the package gives it: bytes, since a guest's names need not be text.
#[derive(FromPyObject)]
pub(crate) enum CommandLine {
    /// A line for the guest's shell.
    #[pyo3(transparent)]
    Shell(PyBackedBytes),
    /// A program and its arguments.
    #[pyo3(transparent)]
    Arguments(Vec<PyBackedBytes>),
}

/// The fields of a `CommandResult` of the package.
#[derive(IntoPyObject)]
pub(crate) struct ResultFields {
    exit_code: i32,
    stdout: String,
    stderr: String,
    stdout_bytes: Bytes,
    stderr_bytes: Bytes,
    duration: f64,
}

/// Bytes that become `bytes`, not a list of numbers.
pub(crate) struct Bytes(pub(crate) Vec<u8>);

/// The fields of a `VMInfo` of the package.
#[derive(IntoPyObject)]
pub(crate) struct InfoFields {
    vm_id: String,
    status: String,
    created_at: f64,
    detached: bool,
    pid: Option<u32>,
    ended: Option<String>,
    ip_address: Option<String>,
    kernel_path: PathBuf,
    rootfs_path: PathBuf,
    vcpu_count: Option<u32>,
    mem_size_mib: u32,
    directory: PathBuf,
}

/// A virtual machine of this process, or one of another that was looked up.
#[pyclass(frozen, module = "smolvm._smolvm")]
pub(crate) struct Machine {
    id: String,
    /// That made this object.
    process: u32,
    directory: PathBuf,
    /// Never locked while Python runs, so it is free in a forked child.
    vm: Mutex<Here<Arc<SmolVm>>>,
    /// The ports that lead into it, until it ends.
    forwards: Mutex<Here<Vec<Forward>>>,
}

impl<'py> IntoPyObject<'py> for Bytes {
    type Target = pyo3::types::PyBytes;
    type Output = Bound<'py, Self::Target>;
    type Error = std::convert::Infallible;

    fn into_pyobject(self, py: Python<'py>) -> Result<Self::Output, Self::Error> {
        Ok(pyo3::types::PyBytes::new(py, &self.0))
    }
}

#[pymethods]
impl Machine {
    /// Makes the machine of a configuration.
    #[new]
    fn new(py: Python<'_>, config: ConfigFields) -> PyResult<Self> {
        let config = configuration(py, config)?;
        // One that is made after the caller was interrupted is ended again.
        let made = call::run(py, &CancelToken::new(), move || SmolVm::new(config))?;
        made.map(Self::of).map_err(|error| errors::machine(py, &error))
    }

    /// The machine of this id, whoever made it.
    #[staticmethod]
    fn from_id(py: Python<'_>, id: String) -> PyResult<Self> {
        let found = call::run(py, &CancelToken::new(), move || SmolVm::from_id(&id))?;
        found.map(Self::of).map_err(|error| errors::machine(py, &error))
    }

    #[getter]
    fn vm_id(&self) -> &str {
        &self.id
    }

    /// Whether this is the process that made this object, and not a child that it forked.
    #[getter]
    fn is_here(&self) -> bool {
        self.process == std::process::id()
    }

    #[pyo3(signature = (boot_timeout, cancel=None))]
    fn start(&self, py: Python<'_>, boot_timeout: f64, cancel: Option<&Cancel>) -> PyResult<()> {
        let timeout = seconds(py, "boot_timeout", boot_timeout)?;
        self.call(py, cancel, move |vm, cancel| vm.cancelled_by(cancel).start_within(timeout))
    }

    #[pyo3(signature = (timeout, cancel=None))]
    fn stop(&self, py: Python<'_>, timeout: f64, cancel: Option<&Cancel>) -> PyResult<()> {
        let timeout = seconds(py, "timeout", timeout)?;
        let forwards = self.take_forwards();
        // Where the caller is interrupted, it ends all the same.
        self.call(py, cancel, move |vm, _| {
            drop(forwards);
            vm.stop_within(timeout)
        })
    }

    #[pyo3(signature = (cancel=None))]
    fn delete(&self, py: Python<'_>, cancel: Option<&Cancel>) -> PyResult<()> {
        let forwards = self.take_forwards();
        self.call(py, cancel, move |vm, _| {
            drop(forwards);
            vm.delete()
        })
    }

    fn pause(&self, py: Python<'_>) -> PyResult<()> {
        self.call(py, None, |vm, _| vm.pause())
    }

    fn resume(&self, py: Python<'_>) -> PyResult<()> {
        self.call(py, None, |vm, _| vm.resume())
    }

    /// Makes a snapshot; returns its directory and its digest.
    #[pyo3(signature = (directory, cancel=None))]
    fn snapshot(
        &self,
        py: Python<'_>,
        directory: PathBuf,
        cancel: Option<&Cancel>,
    ) -> PyResult<(PathBuf, String)> {
        self.call(py, cancel, move |vm, cancel| {
            let snapshot = vm.cancelled_by(cancel).snapshot(directory)?;
            Ok((snapshot.path().to_owned(), snapshot.digest().to_string()))
        })
    }

    /// Makes a machine that goes on from a snapshot.
    #[staticmethod]
    #[pyo3(signature = (directory, vm_id, env, digest, timeout, cancel=None))]
    fn restore(
        py: Python<'_>,
        directory: PathBuf,
        vm_id: Option<String>,
        env: BTreeMap<String, String>,
        digest: Option<String>,
        timeout: f64,
        cancel: Option<&Cancel>,
    ) -> PyResult<Self> {
        let cancel = call::token(cancel);
        let timeout = seconds(py, "timeout", timeout)?;
        let mut config = RestoreConfig::new().timeout(timeout).cancel(&cancel);
        if let Some(id) = vm_id {
            config = config.id(&id).map_err(|error| errors::machine(py, &error))?;
        }
        if let Some(digest) = digest {
            let digest: Digest = digest
                .parse()
                .map_err(|error: DigestError| errors::validation(py, &error.to_string()))?;
            config = config.digest(digest);
        }
        let config = env.into_iter().fold(config, |config, (name, value)| config.env(name, value));
        let restored =
            call::run(py, &cancel, move || SmolVm::restore(&Snapshot::open(directory)?, config))?;
        restored.map(Self::of).map_err(|error| errors::machine(py, &error))
    }

    #[getter]
    fn status(&self, py: Python<'_>) -> PyResult<String> {
        let vm = self.vm(py)?;
        Ok(py.detach(|| vm.status()).to_string())
    }

    fn info(&self, py: Python<'_>) -> PyResult<InfoFields> {
        self.call(py, None, |vm, _| Ok(InfoFields::from(vm.info())))
    }

    fn get_ip(&self, py: Python<'_>) -> PyResult<String> {
        self.call(py, None, |vm, _| vm.get_ip().map(|address| address.to_string()))
    }

    fn console_log(&self, py: Python<'_>) -> PyResult<String> {
        self.call(py, None, |vm, _| Ok(String::from_utf8_lossy(&vm.console_log()).into_owned()))
    }

    #[pyo3(signature = (timeout, cancel=None))]
    fn wait_ready(&self, py: Python<'_>, timeout: f64, cancel: Option<&Cancel>) -> PyResult<()> {
        let timeout = seconds(py, "timeout", timeout)?;
        self.call(py, cancel, move |vm, cancel| vm.cancelled_by(cancel).wait_ready(timeout))
    }

    #[pyo3(signature = (command, timeout, env, cwd, user, stdin, max_output, cancel=None))]
    #[allow(clippy::too_many_arguments, reason = "each is one of the documented call")]
    fn run(
        &self,
        py: Python<'_>,
        command: CommandLine,
        timeout: Option<f64>,
        env: Option<BTreeMap<String, String>>,
        cwd: Option<PathBuf>,
        user: Option<String>,
        stdin: Option<PyBackedBytes>,
        max_output: u64,
        cancel: Option<&Cancel>,
    ) -> PyResult<ResultFields> {
        let mut command = build(py, command, timeout, env, cwd, user)?.max_output(max_output);
        if let Some(bytes) = stdin {
            command = command.stdin(bytes.as_ref());
        }
        let run = self.call(py, cancel, move |vm, cancel| vm.cancelled_by(cancel).run(command))?;
        Ok(ResultFields::from(run))
    }

    #[pyo3(signature = (command, timeout, env, cwd, user, stdin, piped, cancel=None))]
    #[allow(clippy::too_many_arguments, reason = "each is one of the documented call")]
    fn popen(
        &self,
        py: Python<'_>,
        command: CommandLine,
        timeout: Option<f64>,
        env: Option<BTreeMap<String, String>>,
        cwd: Option<PathBuf>,
        user: Option<String>,
        stdin: Option<PyBackedBytes>,
        piped: bool,
        cancel: Option<&Cancel>,
    ) -> PyResult<Process> {
        let mut command = build(py, command, timeout, env, cwd, user)?;
        if let Some(bytes) = stdin {
            command = command.stdin(bytes.as_ref());
        } else if piped {
            command = command.stdin_piped();
        }
        let id = self.id.clone();
        let popen = move |vm: &SmolVm, cancel: &CancelToken| vm.cancelled_by(cancel).popen(command);
        Ok(Process::new(id, self.call(py, cancel, popen)?))
    }

    #[pyo3(signature = (host, guest, cancel=None))]
    fn copy_to(
        &self,
        py: Python<'_>,
        host: PathBuf,
        guest: PathBuf,
        cancel: Option<&Cancel>,
    ) -> PyResult<()> {
        self.call(py, cancel, move |vm, cancel| vm.cancelled_by(cancel).copy_to(host, guest))
    }

    #[pyo3(signature = (guest, host, cancel=None))]
    fn copy_from(
        &self,
        py: Python<'_>,
        guest: PathBuf,
        host: PathBuf,
        cancel: Option<&Cancel>,
    ) -> PyResult<()> {
        self.call(py, cancel, move |vm, cancel| vm.cancelled_by(cancel).copy_from(guest, host))
    }

    #[pyo3(signature = (guest_port, host_port))]
    fn forward(&self, py: Python<'_>, guest_port: u16, host_port: Option<u16>) -> PyResult<u16> {
        let forward = self.call(py, None, move |vm, _| vm.forward(guest_port, host_port))?;
        let port = forward.host_port();
        let mut forwards = self.forwards();
        let mut open = forwards.take().unwrap_or_default();
        open.push(forward);
        *forwards = Here::new(open);
        Ok(port)
    }
}

impl Machine {
    fn of(vm: SmolVm) -> Self {
        Self {
            id: vm.id().to_owned(),
            process: std::process::id(),
            directory: vm.directory().to_owned(),
            vm: Mutex::new(Here::new(Arc::new(vm))),
            forwards: Mutex::new(Here::new(Vec::new())),
        }
    }

    /// Runs a call with the machine, and gives its error as an exception.
    fn call<T: Send + 'static>(
        &self,
        py: Python<'_>,
        cancel: Option<&Cancel>,
        work: impl FnOnce(&SmolVm, &CancelToken) -> Result<T, VmError> + Send + 'static,
    ) -> PyResult<T> {
        let vm = self.vm(py)?;
        let cancel = call::token(cancel);
        let given = cancel.clone();
        let result = call::run(py, &cancel, move || work(&vm, &given))?;
        result.map_err(|error| errors::machine(py, &error))
    }

    /// The machine. In a forked child it is looked up: to that it is another program's.
    fn vm(&self, py: Python<'_>) -> PyResult<Arc<SmolVm>> {
        let mut current = self.current();
        if let Some(vm) = current.get() {
            return Ok(Arc::clone(vm));
        }
        let vms = self.directory.parent().unwrap_or(Path::new("/"));
        let found = Vms::at(vms).and_then(|vms| vms.open(&self.id));
        let vm = Arc::new(found.map_err(|error| errors::machine(py, &error))?);
        *current = Here::new(Arc::clone(&vm));
        Ok(vm)
    }

    fn current(&self) -> MutexGuard<'_, Here<Arc<SmolVm>>> {
        self.vm.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forwards(&self) -> MutexGuard<'_, Here<Vec<Forward>>> {
        self.forwards.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_forwards(&self) -> Vec<Forward> {
        let open = self.forwards().take().unwrap_or_default();
        *self.forwards() = Here::new(Vec::new());
        open
    }
}

impl Drop for Machine {
    /// Ends a machine of this process without the interpreter's lock: it may take a moment.
    fn drop(&mut self) {
        let forwards = self.take_forwards();
        let vm = self.current().take();
        let mut all = Some((forwards, vm));
        Python::try_attach(|py| py.detach(|| drop(mem::take(&mut all))));
    }
}

/// The command of the arguments that `run` and `popen` share.
fn build(
    py: Python<'_>,
    command: CommandLine,
    timeout: Option<f64>,
    env: Option<BTreeMap<String, String>>,
    cwd: Option<PathBuf>,
    user: Option<String>,
) -> PyResult<Command> {
    let mut command = match command {
        CommandLine::Shell(line) => Command::shell(OsStr::from_bytes(&line)),
        CommandLine::Arguments(arguments) => {
            let arguments: Vec<_> =
                arguments.iter().map(|bytes| OsStr::from_bytes(bytes)).collect();
            Command::from(arguments)
        }
    };
    command = match timeout {
        Some(timeout) => command.timeout(seconds(py, "timeout", timeout)?),
        None => command.no_timeout(),
    };
    if let Some(directory) = cwd {
        command = command.cwd(directory);
    }
    if let Some(user) = user {
        command = command.user(user);
    }
    Ok(command.envs(env.unwrap_or_default()))
}

impl From<CommandResult> for ResultFields {
    fn from(result: CommandResult) -> Self {
        Self {
            exit_code: result.exit_code,
            stdout: result.stdout().into_owned(),
            stderr: result.stderr().into_owned(),
            duration: result.duration.as_secs_f64(),
            stdout_bytes: Bytes(result.stdout),
            stderr_bytes: Bytes(result.stderr),
        }
    }
}

impl From<VmInfo> for InfoFields {
    fn from(info: VmInfo) -> Self {
        let created = info.created.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self {
            vm_id: info.id,
            status: info.state.to_string(),
            created_at: created.as_secs_f64(),
            detached: info.detached,
            pid: info.process,
            ended: info.ended,
            ip_address: info.address.map(|address| address.to_string()),
            kernel_path: info.kernel,
            rootfs_path: info.rootfs,
            vcpu_count: info.vcpu_count,
            mem_size_mib: info.mem_size_mib,
            directory: info.directory,
        }
    }
}
