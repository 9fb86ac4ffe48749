//! [`ImageBars`]: a bar for each asset of an image, with bytes, rate and time left.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use smolvm::{AssetKind, Event};

use crate::size;
use crate::terminal::{Terminal, printable};

/// A transfer of known size.
const SIZED: &str = "{prefix} {wide_bar} {binary_bytes:>10} of {binary_total_bytes}  {binary_bytes_per_sec:>12}  {eta} left";
/// A transfer whose end nobody announced.
const UNSIZED: &str = "{prefix} {spinner} {binary_bytes:>10}  {binary_bytes_per_sec:>12}";
/// Anything else that takes time; cut off where the terminal ends.
const NOTE: &str = "{prefix} {spinner} {wide_msg}";
/// An asset that is had.
const DONE: &str = "{prefix} {wide_msg}";

/// The bars of one image.
#[derive(Debug)]
pub(crate) struct ImageBars {
    terminal: Terminal,
    image: String,
    bars: Mutex<BTreeMap<AssetKind, AssetBar>>,
}

#[derive(Debug)]
struct AssetBar {
    bar: ProgressBar,
    shows: Shows,
}

/// What a bar shows, so that its style is changed only when that changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shows {
    Note,
    Transfer { total: Option<u64> },
}

impl ImageBars {
    pub(super) fn new(terminal: &Terminal, image: &str) -> Self {
        Self { terminal: terminal.clone(), image: printable(image), bars: Mutex::default() }
    }

    pub(super) fn event(&self, kind: AssetKind, event: &Event) {
        let mut bars = self.bars();
        let bar = bars.entry(kind).or_insert_with(|| self.add(kind));
        match event {
            Event::Progress { done, total } => bar.transfer(*done, *total),
            Event::Verifying { size } => bar.note(&format!("verifying {}", size::human(*size))),
            Event::Damaged { reason } => bar.note(&format!("damaged: {reason}")),
            Event::Waiting { what } => bar.note(&format!("waiting for {what}")),
            Event::Retrying { attempt, pause, reason } => {
                let pause = pause.as_secs_f64();
                bar.note(&format!("attempt {attempt} failed, next in {pause:.1} s: {reason}"));
            }
            Event::Cached { size } | Event::Shared { size, .. } | Event::Fetched { size, .. } => {
                bar.done(*size);
            }
            _ => {}
        }
    }

    /// Takes the bars off the terminal.
    pub(super) fn clear(&self) {
        for bar in std::mem::take(&mut *self.bars()).into_values() {
            bar.bar.finish_and_clear();
        }
    }

    fn add(&self, kind: AssetKind) -> AssetBar {
        let bar = self.terminal.bars().add(ProgressBar::no_length());
        bar.set_style(style(NOTE));
        bar.set_prefix(format!("{} {:<6}", self.image, kind.label()));
        bar.enable_steady_tick(Duration::from_millis(120));
        AssetBar { bar, shows: Shows::Note }
    }

    fn bars(&self) -> MutexGuard<'_, BTreeMap<AssetKind, AssetBar>> {
        self.bars.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AssetBar {
    fn transfer(&mut self, done: u64, total: Option<u64>) {
        let shows = Shows::Transfer { total };
        if self.shows == shows {
            self.bar.set_position(done);
            return;
        }
        self.shows = shows;
        match total {
            Some(total) => {
                self.bar.set_length(total);
                self.bar.set_style(style(SIZED).progress_chars("=> "));
            }
            None => self.bar.set_style(style(UNSIZED)),
        }
        self.bar.set_position(done);
        // What was there before is not part of the rate.
        self.bar.reset_eta();
    }

    fn done(&mut self, size: u64) {
        self.shows = Shows::Note;
        self.bar.set_style(style(DONE));
        self.bar.set_message(format!("done, {}", size::human(size)));
        self.bar.disable_steady_tick();
    }

    fn note(&mut self, text: &str) {
        if self.shows != Shows::Note {
            self.shows = Shows::Note;
            self.bar.set_style(style(NOTE));
        }
        self.bar.set_message(printable(text).replace('\n', " "));
    }
}

/// A style from one of the templates above, which a test parses.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_parse() {
        for template in [SIZED, UNSIZED, NOTE, DONE] {
            ProgressStyle::with_template(template).unwrap();
        }
    }
}
