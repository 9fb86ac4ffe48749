//! Records of the Rust crates, handed on to Python's `logging` under `smolvm`.
//!
//! Whoever logs only puts a record into a queue: it may hold locks, and never waits for Python.
//! Threads of Python hand the records on, during and at the end of their calls.

use std::collections::VecDeque;
use std::mem;
use std::time::{SystemTime, UNIX_EPOCH};

use log::{Level, LevelFilter, Log, Metadata, Record};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use smolvm_fork::ForkMutex;

/// Records that nobody has handed on yet. Of more than this many the oldest are dropped.
const MOST: usize = 10_000;

static QUEUE: ForkMutex<VecDeque<Entry>> = ForkMutex::new(VecDeque::new());

static LOGGER: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

struct Entry {
    level: Level,
    logger: String,
    message: String,
    file: Option<&'static str>,
    line: u32,
    seconds: f64,
}

struct Queue;

/// Takes the records of all crates from now on.
pub(crate) fn install() {
    // Another one is there when the module is loaded a second time.
    let _ = log::set_logger(&Queue);
}

impl Log for Queue {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= Level::Warn || metadata.target().starts_with("smolvm")
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let entry = Entry {
            level: record.level(),
            logger: logger_name(record.target()),
            message: record.args().to_string(),
            file: record.file_static(),
            line: record.line().unwrap_or(0),
            seconds: since.as_secs_f64(),
        };
        let mut queue = QUEUE.lock();
        if queue.len() >= MOST {
            queue.pop_front();
        }
        queue.push_back(entry);
    }

    fn flush(&self) {}
}

/// `smolvm_image::cache::store` is `smolvm.image.cache.store`.
fn logger_name(target: &str) -> String {
    let path = target.replace("::", ".");
    match path.strip_prefix("smolvm") {
        Some(rest) => format!("smolvm{}", rest.replacen('_', ".", 1)),
        None => format!("smolvm.{path}"),
    }
}

/// Takes over the level that Python's logger `smolvm` has now.
pub(crate) fn listen(py: Python<'_>) -> PyResult<()> {
    let logger = LOGGER.get_or_try_init(py, || {
        let logging = py.import("logging")?;
        Ok::<_, PyErr>(logging.call_method1("getLogger", ("smolvm",))?.unbind())
    })?;
    let level: u32 = logger.bind(py).call_method0("getEffectiveLevel")?.extract()?;
    log::set_max_level(match level {
        0..=9 => LevelFilter::Trace,
        10..=19 => LevelFilter::Debug,
        20..=29 => LevelFilter::Info,
        30..=39 => LevelFilter::Warn,
        _ => LevelFilter::Error,
    });
    Ok(())
}

/// Hands on what has come.
pub(crate) fn deliver(py: Python<'_>) -> PyResult<()> {
    // The usual case, at nearly no cost.
    let entries = mem::take(&mut *QUEUE.lock());
    if entries.is_empty() {
        return Ok(());
    }
    let logging = py.import("logging")?;
    for entry in entries {
        let level = match entry.level {
            Level::Error => 40,
            Level::Warn => 30,
            Level::Info => 20,
            Level::Debug => 10,
            Level::Trace => 5,
        };
        let logger = logging.call_method1("getLogger", (&entry.logger,))?;
        if !logger.call_method1("isEnabledFor", (level,))?.is_truthy()? {
            continue;
        }
        let file = entry.file.unwrap_or("");
        let arguments =
            (&entry.logger, level, file, entry.line, &entry.message, py.None(), py.None());
        let record = logger.call_method1("makeRecord", arguments)?;
        record.setattr("created", entry.seconds)?;
        record.setattr("msecs", entry.seconds.fract() * 1000.0)?;
        logger.call_method1("handle", (record,))?;
    }
    Ok(())
}

/// Hands on what threads without Python have logged since the last call.
#[pyfunction]
pub(crate) fn deliver_logs(py: Python<'_>) -> PyResult<()> {
    deliver(py)
}
