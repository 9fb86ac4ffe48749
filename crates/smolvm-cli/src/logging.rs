//! What the library logs, on standard error: warnings, and more with `-v`.

use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::style;
use crate::terminal::Terminal;

/// Prints the records of this project's crates.
struct Logger {
    terminal: Terminal,
    level: LevelFilter,
}

/// Starts to print records, of the levels that the options ask for.
pub(crate) fn start(terminal: &Terminal, quiet: bool, verbose: u8) {
    let level = match (quiet, verbose) {
        (true, _) => LevelFilter::Error,
        (false, 0) => LevelFilter::Warn,
        (false, 1) => LevelFilter::Info,
        (false, 2) => LevelFilter::Debug,
        (false, _) => LevelFilter::Trace,
    };
    let logger = Logger { terminal: terminal.clone(), level };
    // It fails only where a logger is set already, and this is the only place that sets one.
    if log::set_boxed_logger(Box::new(logger)).is_ok() {
        log::set_max_level(level);
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= self.level && metadata.target().starts_with("smolvm")
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let (label, style) = match record.level() {
                Level::Error => ("error", style::ERROR),
                Level::Warn => ("warning", style::WARNING),
                Level::Info => ("info", style::NOTE),
                Level::Debug => ("debug", style::DIM),
                Level::Trace => ("trace", style::DIM),
            };
            self.terminal.labelled(label, style, &record.args().to_string());
        }
    }

    fn flush(&self) {}
}
