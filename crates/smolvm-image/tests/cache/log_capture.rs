//! What the library logs in this process.

use std::sync::{Mutex, Once};

use log::{LevelFilter, Log, Metadata, Record};

struct Capture(Mutex<Vec<String>>);

static CAPTURE: Capture = Capture(Mutex::new(Vec::new()));

impl Log for Capture {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        self.0.lock().unwrap().push(format!("{}: {}", record.level(), record.args()));
    }

    fn flush(&self) {}
}

/// Listens from the first call on. Tests run side by side: who looks for a line looks for one that
/// names something of its own.
pub(crate) fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&CAPTURE).unwrap();
        log::set_max_level(LevelFilter::Info);
    });
}

/// The lines so far that hold a text.
pub(crate) fn lines_with(text: &str) -> Vec<String> {
    let lines = CAPTURE.0.lock().unwrap();
    lines.iter().filter(|line| line.contains(text)).cloned().collect()
}
