//! A command that runs in a machine.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pyo3::exceptions::{PyBrokenPipeError, PyValueError};
use pyo3::prelude::*;
use smolvm::{CancelToken, ExitStatus, ProcessOutput, ProcessStdin, VmError};

use crate::call::{self, Cancel};
use crate::errors;
use crate::here::Here;
use crate::machine::Bytes;
use crate::seconds::seconds;

/// The most bytes that one reading brings.
const MOST: usize = 256 * 1024;

/// A command that runs in a machine, and its streams.
#[pyclass(frozen, module = "smolvm._smolvm")]
pub(crate) struct Process {
    vm_id: String,
    parts: Mutex<Here<Parts>>,
}

struct Parts {
    process: Arc<smolvm::Process>,
    stdin: Option<Arc<ProcessStdin>>,
    stdout: Option<Arc<ProcessOutput>>,
    stderr: Option<Arc<ProcessOutput>>,
}

impl Process {
    pub(crate) fn new(vm_id: String, process: smolvm::Process) -> Self {
        let parts = Parts {
            stdin: process.take_stdin().map(Arc::new),
            stdout: process.take_stdout().map(Arc::new),
            stderr: process.take_stderr().map(Arc::new),
            process: Arc::new(process),
        };
        Self { vm_id, parts: Mutex::new(Here::new(parts)) }
    }

    /// Takes something out of the parts.
    fn with<T>(&self, py: Python<'_>, take: impl FnOnce(&Parts) -> T) -> PyResult<T> {
        let parts = self.parts();
        parts.get().map(take).ok_or_else(|| {
            errors::plain(
                py,
                "the command belongs to the process that started it, not to its child",
            )
        })
    }

    fn parts(&self) -> MutexGuard<'_, Here<Parts>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn error(&self, py: Python<'_>, source: smolvm::SessionError) -> PyErr {
        errors::machine(py, &VmError::Session { id: self.vm_id.clone(), source })
    }
}

#[pymethods]
impl Process {
    #[getter]
    fn pid(&self, py: Python<'_>) -> PyResult<u32> {
        self.with(py, |parts| parts.process.pid())
    }

    /// Whether standard input is a pipe that is open.
    #[getter]
    fn has_stdin(&self, py: Python<'_>) -> PyResult<bool> {
        self.with(py, |parts| parts.stdin.is_some())
    }

    /// Reads at most `size` bytes of standard output, or of standard error; none at its end.
    #[pyo3(signature = (is_stderr, size, cancel=None))]
    fn read(
        &self,
        py: Python<'_>,
        is_stderr: bool,
        size: usize,
        cancel: Option<&Cancel>,
    ) -> PyResult<Bytes> {
        let output =
            self.with(
                py,
                |parts| {
                    if is_stderr { parts.stderr.clone() } else { parts.stdout.clone() }
                },
            )?;
        let output = output.ok_or_else(|| PyValueError::new_err("the stream is closed"))?;
        let mut buffer = vec![0; size.min(MOST)];
        let count = call::in_turns(py, &call::token(cancel), |poll| {
            output.read_within(&mut buffer, poll)
        })??;
        buffer.truncate(count);
        Ok(Bytes(buffer))
    }

    /// Writes a part of `bytes`, at least one, to standard input; returns how many it took.
    #[pyo3(signature = (bytes, cancel=None))]
    fn write(&self, py: Python<'_>, bytes: &[u8], cancel: Option<&Cancel>) -> PyResult<usize> {
        let stdin = self.with(py, |parts| parts.stdin.clone())?;
        let stdin = stdin.ok_or_else(|| PyBrokenPipeError::new_err("standard input is closed"))?;
        let part = bytes[..bytes.len().min(MOST)].to_vec();
        let written =
            call::in_turns(py, &call::token(cancel), |poll| stdin.write_within(&part, poll))??;
        Ok(written)
    }

    /// Ends standard input.
    fn close_stdin(&self) {
        self.close(|parts| drop(parts.stdin.take()));
    }

    /// Throws away what still comes of standard output, or of standard error.
    fn close_output(&self, is_stderr: bool) {
        self.close(|parts| {
            drop(if is_stderr { parts.stderr.take() } else { parts.stdout.take() });
        });
    }

    /// Waits until the command has ended, at most so long; its exit code, or `None`.
    #[pyo3(signature = (timeout, cancel=None))]
    fn wait(
        &self,
        py: Python<'_>,
        timeout: Option<f64>,
        cancel: Option<&Cancel>,
    ) -> PyResult<Option<i32>> {
        let process = self.with(py, |parts| Arc::clone(&parts.process))?;
        let timeout = timeout.map(|timeout| seconds(py, "timeout", timeout)).transpose()?;
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        let left = move || {
            deadline.map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()))
        };
        let ended = call::in_turns(py, &call::token(cancel), |poll| {
            let ended = process.wait_timeout(poll.min(left()))?;
            let is_late = left().is_zero();
            Ok(ended.map(Some).or(is_late.then_some(None)))
        })?;
        let ended: Option<ExitStatus> = ended.map_err(|error| self.error(py, error))?;
        Ok(ended.map(|status| status.exit_code()))
    }

    /// Sends a signal to the command and all of its process group.
    fn send_signal(&self, py: Python<'_>, signal: u8) -> PyResult<()> {
        let process = self.with(py, |parts| Arc::clone(&parts.process))?;
        let sent = call::run(py, &CancelToken::new(), move || process.signal(signal))?;
        sent.map_err(|error| self.error(py, error))
    }
}

impl Process {
    fn close(&self, close: impl FnOnce(&mut Parts)) {
        if let Some(parts) = self.parts().get_mut() {
            close(parts);
        }
    }
}
