//! [`ImageLines`]: progress as plain lines, for logs and pipes.
//!
//! Their number is bounded whatever the size: two for the beginning and the end of a transfer, at
//! most nine between, one for each retry and each wait.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use smolvm::{AssetKind, Event};

use crate::size;
use crate::terminal::Terminal;

/// Lines of a transfer come no closer than this.
const INTERVAL: Duration = Duration::from_secs(2);

/// The lines of one image.
#[derive(Debug)]
pub(crate) struct ImageLines {
    terminal: Terminal,
    image: String,
    transfers: Mutex<BTreeMap<AssetKind, Transfer>>,
}

/// What was said of a transfer.
#[derive(Debug)]
struct Transfer {
    started: Instant,
    last_line: Instant,
    /// The mark that the bytes have to pass for the next line.
    next_mark: u64,
}

impl ImageLines {
    pub(super) fn new(terminal: &Terminal, image: &str) -> Self {
        Self { terminal: terminal.clone(), image: image.to_owned(), transfers: Mutex::default() }
    }

    pub(super) fn event(&self, kind: AssetKind, event: &Event) {
        match event {
            Event::Progress { done, total } => self.progress(kind, *done, *total),
            Event::Fetched { received, .. } => {
                let took =
                    self.transfers().remove(&kind).map(|transfer| transfer.started.elapsed());
                let seconds = took.unwrap_or_default().as_secs_f64();
                let received = size::human(*received);
                self.say(kind, &format!("received {received} in {seconds:.1} s"));
            }
            Event::Waiting { what } => self.say(kind, &format!("waiting for {what}")),
            Event::Retrying { attempt, pause, reason } => {
                let pause = pause.as_secs_f64();
                let text = format!("attempt {attempt} failed: {reason}; next in {pause:.1} s");
                self.say(kind, &text);
            }
            // Said by the summary or, of damage, by a warning.
            _ => {}
        }
    }

    fn progress(&self, kind: AssetKind, done: u64, total: Option<u64>) {
        let now = Instant::now();
        let mut transfers = self.transfers();
        let Some(transfer) = transfers.get_mut(&kind) else {
            let next_mark = next_mark(done, total);
            transfers.insert(kind, Transfer { started: now, last_line: now, next_mark });
            drop(transfers);
            let size = total.map_or("size not announced".to_owned(), size::human);
            let kept = (done > 0).then(|| format!(", {} are there already", size::human(done)));
            self.say(kind, &format!("fetching, {size}{}", kept.unwrap_or_default()));
            return;
        };
        if done < transfer.next_mark || now - transfer.last_line < INTERVAL {
            return;
        }
        transfer.next_mark = next_mark(done, total);
        transfer.last_line = now;
        drop(transfers);
        let done_text = size::human(done);
        match total {
            Some(total) if total > 0 => {
                let percent = u128::from(done) * 100 / u128::from(total);
                self.say(kind, &format!("{percent} %, {done_text} of {}", size::human(total)));
            }
            _ => self.say(kind, &done_text),
        }
    }

    fn say(&self, kind: AssetKind, text: &str) {
        self.terminal.line(&format!("{}: {kind}: {text}", self.image));
    }

    fn transfers(&self) -> MutexGuard<'_, BTreeMap<AssetKind, Transfer>> {
        self.transfers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The next tenth of a known size; twice as much (1 MiB at least) where there is none.
fn next_mark(done: u64, total: Option<u64>) -> u64 {
    match total {
        Some(total) => {
            let tenth = (total / 10).max(1);
            (done / tenth + 1).saturating_mul(tenth)
        }
        None => done.saturating_mul(2).max(1 << 20),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_few_whatever_the_size() {
        for total in [Some(0), Some(7), Some(1 << 40), Some(u64::MAX), None] {
            let mut marks = 0;
            let mut done = 0;
            while done < total.unwrap_or(1 << 50) {
                done = next_mark(done, total);
                marks += 1;
            }
            assert!(marks <= 31, "{marks} marks for {total:?}");
        }
    }
}
