//! Errors of the library as the exceptions of `smolvm.exceptions`, with their details.

use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use smolvm::{ImageError, RegistryError, SessionError, TransferError, VmError, VmErrorKind};

use crate::cause;

/// A class of `smolvm.exceptions`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    SmolVm,
    Image,
    Validation,
    Host,
    Network,
    AlreadyExists,
    NotFound,
    Timeout,
    Unavailable,
}

impl Class {
    fn name(self) -> &'static str {
        match self {
            Self::SmolVm => "SmolVMError",
            Self::Image => "ImageError",
            Self::Validation => "ValidationError",
            Self::Host => "HostError",
            Self::Network => "NetworkError",
            Self::AlreadyExists => "VMAlreadyExistsError",
            Self::NotFound => "VMNotFoundError",
            Self::Timeout => "OperationTimeoutError",
            Self::Unavailable => "CommandExecutionUnavailableError",
        }
    }
}

/// An exception of the package.
pub(crate) fn exception(
    py: Python<'_>,
    class: Class,
    message: &str,
    details: Option<Bound<'_, PyDict>>,
) -> PyErr {
    let made = py
        .import("smolvm.exceptions")
        .and_then(|module| module.getattr(class.name()))
        .and_then(|class| class.call1((message, details)));
    // Only a package that is not whole has no such class.
    made.map_or_else(|_| PyException::new_err(message.to_owned()), PyErr::from_value)
}

/// What the caller gave cannot be.
pub(crate) fn validation(py: Python<'_>, message: &str) -> PyErr {
    exception(py, Class::Validation, message, None)
}

/// What is of no class of its own.
pub(crate) fn plain(py: Python<'_>, message: &str) -> PyErr {
    exception(py, Class::SmolVm, message, None)
}

/// An error about an image.
pub(crate) fn image(py: Python<'_>, error: &ImageError) -> PyErr {
    let class = match error {
        ImageError::EmptyName => Class::Validation,
        _ => Class::Image,
    };
    raise(py, class, error, |details| image_details(details, error))
}

/// An error about a registry file.
pub(crate) fn registry(py: Python<'_>, error: &RegistryError) -> PyErr {
    raise(py, Class::Image, error, |details| match error {
        RegistryError::Read { path, .. } => details.set_item("path", path),
        RegistryError::Parse { path, line, column, .. } => {
            details.set_item("path", path)?;
            details.set_item("line", line)?;
            details.set_item("column", column)
        }
        _ => Ok(()),
    })
}

/// An error about a machine.
pub(crate) fn machine(py: Python<'_>, error: &VmError) -> PyErr {
    let class = match error.kind() {
        VmErrorKind::Usage => Class::Validation,
        VmErrorKind::AlreadyExists => Class::AlreadyExists,
        VmErrorKind::NotFound => Class::NotFound,
        VmErrorKind::Image => Class::Image,
        VmErrorKind::Host => Class::Host,
        VmErrorKind::Network => Class::Network,
        VmErrorKind::Timeout => Class::Timeout,
        VmErrorKind::Command => match error {
            VmError::Session { source, .. } => session_class(source),
            _ => Class::SmolVm,
        },
        _ => Class::SmolVm,
    };
    raise(py, class, error, |details| machine_details(details, error))
}

/// What a failure between the host and the guest's agent is for the caller.
fn session_class(error: &SessionError) -> Class {
    match error {
        SessionError::InvalidCommand { .. }
        | SessionError::CommandTooLong { .. }
        | SessionError::InvalidGuestPath { .. } => Class::Validation,
        SessionError::NotAnswering { .. } | SessionError::NotReady { .. } => Class::Timeout,
        SessionError::Connect { .. }
        | SessionError::Disconnected
        | SessionError::Protocol(_)
        | SessionError::NotReading
        | SessionError::TooManyAtOnce => Class::Unavailable,
        SessionError::Forward { .. } => Class::Network,
        SessionError::Io { .. } | SessionError::Host { .. } => Class::Host,
        _ => Class::SmolVm,
    }
}

fn raise<E: std::error::Error + 'static>(
    py: Python<'_>,
    class: Class,
    error: &E,
    fill: impl FnOnce(&Bound<'_, PyDict>) -> PyResult<()>,
) -> PyErr {
    let details = PyDict::new(py);
    if let Err(failed) = fill(&details) {
        return failed;
    }
    let exception = exception(py, class, &error.to_string(), Some(details));
    exception.set_cause(py, cause::of(py, error, class));
    exception
}

fn image_details(details: &Bound<'_, PyDict>, error: &ImageError) -> PyResult<()> {
    let set_asset = |image: &String, kind: &smolvm::AssetKind| {
        details.set_item("image", image)?;
        details.set_item("asset", kind.label())
    };
    match error {
        ImageError::InvalidName { name, .. } => details.set_item("image", name),
        ImageError::UnknownImage { name, available, suggestion } => {
            details.set_item("image", name)?;
            details.set_item("available", available)?;
            details.set_item("suggestion", suggestion)
        }
        ImageError::Mismatch { image, kind, url, expected, actual, content } => {
            set_asset(image, kind)?;
            details.set_item("url", url.to_string())?;
            details.set_item("expected", expected.to_string())?;
            details.set_item("actual", actual.to_string())?;
            details.set_item("content", content)
        }
        ImageError::NotAnImage { image, kind, url, content } => {
            set_asset(image, kind)?;
            details.set_item("url", url.to_string())?;
            details.set_item("content", content)
        }
        ImageError::Fetch { image, kind, url, attempts, source } => {
            set_asset(image, kind)?;
            details.set_item("url", url.to_string())?;
            details.set_item("attempts", attempts)?;
            match source {
                TransferError::Status(status) => details.set_item("status", status),
                _ => Ok(()),
            }
        }
        ImageError::Offline { image, missing, directory } => {
            let missing: Vec<_> = missing.iter().map(|kind| kind.label()).collect();
            details.set_item("image", image)?;
            details.set_item("missing", missing)?;
            details.set_item("path", directory)
        }
        ImageError::NotCached { image } | ImageError::Contended { image } => {
            details.set_item("image", image)
        }
        ImageError::Damaged { image, kind, .. } => set_asset(image, kind),
        ImageError::DiskFull { path, needed, available } => {
            details.set_item("path", path)?;
            details.set_item("needed", needed)?;
            details.set_item("available", available)
        }
        ImageError::Io { path, .. }
        | ImageError::Link { path }
        | ImageError::NewerLayout { path, .. }
        | ImageError::Home { path } => details.set_item("path", path),
        _ => Ok(()),
    }
}

fn machine_details(details: &Bound<'_, PyDict>, error: &VmError) -> PyResult<()> {
    match error {
        VmError::AlreadyExists { id }
        | VmError::NotFound { id }
        | VmError::NotOwner { id }
        | VmError::Supervisor { id, .. }
        | VmError::Cancelled { id }
        | VmError::NoAddress { id } => details.set_item("vm_id", id),
        VmError::NotRunning { id, state } => {
            details.set_item("vm_id", id)?;
            details.set_item("status", state.to_string())
        }
        VmError::BootTimeout { id, after, console, .. } => {
            details.set_item("vm_id", id)?;
            details.set_item("timeout", after.as_secs_f64())?;
            details.set_item("console", console)
        }
        VmError::BootFailed { id, reason, console } => {
            details.set_item("vm_id", id)?;
            details.set_item("reason", reason)?;
            details.set_item("console", console)
        }
        VmError::Session { id, source } => {
            details.set_item("vm_id", id)?;
            session_details(details, source)
        }
        VmError::BaseChanged { id, path } | VmError::Record { id, path, .. } => {
            details.set_item("vm_id", id)?;
            details.set_item("path", path)
        }
        VmError::NotAFile { path }
        | VmError::ForeignDirectory { path }
        | VmError::Io { path, .. } => details.set_item("path", path),
        _ => Ok(()),
    }
}

fn session_details(details: &Bound<'_, PyDict>, error: &SessionError) -> PyResult<()> {
    match error {
        SessionError::CommandTimeout { command, after, stdout, stderr } => {
            details.set_item("command", command)?;
            details.set_item("timeout", after.as_secs_f64())?;
            details.set_item("stdout", String::from_utf8_lossy(stdout))?;
            details.set_item("stderr", String::from_utf8_lossy(stderr))
        }
        SessionError::OutputTooLarge { command, limit } => {
            details.set_item("command", command)?;
            details.set_item("limit", limit)
        }
        SessionError::InvalidCommand { command, .. }
        | SessionError::CommandTooLong { command, .. }
        | SessionError::CommandNotFound { command, .. }
        | SessionError::NotExecutable { command, .. } => details.set_item("command", command),
        SessionError::NoSuchUser { command, user, .. } => {
            details.set_item("command", command)?;
            details.set_item("user", user)
        }
        SessionError::WorkingDirectory { command, cwd, .. } => {
            details.set_item("command", command)?;
            details.set_item("path", cwd)
        }
        SessionError::InvalidGuestPath { path, .. }
        | SessionError::Io { path, .. }
        | SessionError::CopyTooLarge { path, .. }
        | SessionError::CopyRefused { path, .. } => details.set_item("path", path),
        SessionError::Forward { host_port, guest_port, .. } => {
            details.set_item("host_port", host_port)?;
            details.set_item("guest_port", guest_port)
        }
        _ => Ok(()),
    }
}
