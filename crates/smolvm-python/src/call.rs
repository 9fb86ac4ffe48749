//! [`run`]: a call of the library for a Python thread, which stays free for signals meanwhile.
//!
//! The work is done on a thread of its own that knows nothing of Python. The calling thread waits
//! for it without the interpreter's lock, and takes that now and then to run signal handlers, to
//! tell of progress and to hand on log records. So nothing that the library locks is ever waited
//! for with the interpreter's lock in hand, or the other way round.

use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use smolvm::CancelToken;

use crate::{errors, logging};

/// How often signals are looked for.
const POLL: Duration = Duration::from_millis(50);

/// How long work that was cancelled is waited for. What does not end by then (a name server that
/// does not answer, a disk that hangs) ends later, by itself.
const GRACE: Duration = Duration::from_millis(400);

/// Ends the calls that it is given to, from any thread.
#[pyclass(frozen, module = "smolvm._smolvm")]
#[derive(Debug, Default)]
pub(crate) struct Cancel(CancelToken);

#[pymethods]
impl Cancel {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// Ends the calls.
    fn cancel(&self) {
        self.0.cancel();
    }

    /// Whether they are to end.
    #[getter]
    fn cancelled(&self) -> bool {
        self.0.is_cancelled()
    }
}

/// The token of one call, which the caller may have given.
pub(crate) fn token(cancel: Option<&Cancel>) -> CancelToken {
    cancel.map_or_else(CancelToken::new, |cancel| cancel.0.child())
}

/// What both threads have of a call.
struct Shared<T, N> {
    state: Mutex<State<T, N>>,
    changed: Condvar,
}

struct State<T, N> {
    result: Option<T>,
    ended: bool,
    news: N,
}

/// The working thread's side: where it leaves its news.
pub(crate) struct Desk<T, N>(Arc<Shared<T, N>>);

impl<T, N> Desk<T, N> {
    /// Changes the news, and has them told soon.
    pub(crate) fn post(&self, change: impl FnOnce(&mut N)) {
        change(&mut self.0.state().news);
        self.0.changed.notify_all();
    }
}

impl<T, N> Clone for Desk<T, N> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T, N> Shared<T, N> {
    fn state(&self) -> MutexGuard<'_, State<T, N>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for something new, for a while.
    fn wait(&self) {
        let state = self.state();
        if !state.ended {
            drop(self.changed.wait_timeout(state, POLL));
        }
    }
}

/// Tells the waiting thread of the end, by whatever means it came.
struct End<T, N>(Desk<T, N>);

impl<T, N> Drop for End<T, N> {
    fn drop(&mut self) {
        self.0.0.state().ended = true;
        self.0.0.changed.notify_all();
    }
}

/// Runs work that has nothing to tell before its end.
pub(crate) fn run<T: Send + 'static>(
    py: Python<'_>,
    cancel: &CancelToken,
    work: impl FnOnce() -> T + Send + 'static,
) -> PyResult<T> {
    run_telling(py, cancel, |(), _| Ok(()), |_| work())
}

/// Runs work on a thread of its own, and tells of its news on this one. When that or a signal
/// handler raises, the token is cancelled, and that is the error.
pub(crate) fn run_telling<T: Send + 'static, N: Default + Send + 'static>(
    py: Python<'_>,
    cancel: &CancelToken,
    mut tell: impl FnMut(N, Python<'_>) -> PyResult<()>,
    work: impl FnOnce(Desk<T, N>) -> T + Send + 'static,
) -> PyResult<T> {
    logging::listen(py)?;
    let state = State { result: None, ended: false, news: N::default() };
    let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
    let desk = Desk(Arc::clone(&shared));
    let working = move || {
        let end = End(desk.clone());
        let result = work(desk);
        end.0.0.state().result = Some(result);
    };
    thread::Builder::new().name("smolvm-call".to_owned()).spawn(working)?;

    let process = std::process::id();
    let mut raised: Option<(PyErr, Instant)> = None;
    loop {
        py.detach(|| shared.wait());
        let (ended, news) = {
            let mut state = shared.state();
            (state.ended, mem::take(&mut state.news))
        };
        if raised.is_none() {
            let told = tell(news, py).and_then(|()| logging::deliver(py));
            let looked = if ended { told } else { told.and_then(|()| py.check_signals()) };
            if let Err(error) = looked {
                cancel.cancel();
                raised = Some((error, Instant::now()));
            }
        }
        if std::process::id() != process {
            // A handler has forked: the thread that works is the parent's.
            mem::forget(shared);
            return Err(errors::plain(py, "this process was forked in the middle of the call"));
        }
        if let Some((error, _)) = raised.take_if(|(_, since)| ended || since.elapsed() > GRACE) {
            return Err(error);
        }
        if ended && raised.is_none() {
            let panicked = || PyRuntimeError::new_err("smolvm has failed; this is a bug in it");
            return shared.state().result.take().ok_or_else(panicked);
        }
    }
}

/// Waits in turns: `step` waits for a moment without the interpreter's lock and returns what came,
/// if anything; between the turns signal handlers run.
pub(crate) fn in_turns<T: Send, E: Send>(
    py: Python<'_>,
    cancel: &CancelToken,
    mut step: impl FnMut(Duration) -> Result<Option<T>, E> + Send,
) -> PyResult<Result<T, E>> {
    logging::listen(py)?;
    let process = std::process::id();
    loop {
        let came = py.detach(|| step(POLL));
        logging::deliver(py)?;
        if let Some(came) = came.transpose() {
            return Ok(came);
        }
        py.check_signals()?;
        if std::process::id() != process {
            return Err(errors::plain(py, "this process was forked in the middle of the call"));
        }
        if cancel.is_cancelled() {
            return Err(errors::plain(py, "cancelled"));
        }
    }
}
