//! [`Terminal`]: standard error, shared by progress bars, log lines and errors without tearing.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};

use indicatif::{MultiProgress, ProgressDrawTarget};

use crate::style;

/// How often bars are drawn, in times per second.
const FRAMES: u8 = 12;

/// Standard error and the bars at its bottom. Clones share the bars.
#[derive(Debug, Clone)]
pub(crate) struct Terminal {
    bars: MultiProgress,
    draws: bool,
}

impl Terminal {
    /// Standard error, with bars if it is a terminal that can draw them.
    pub(crate) fn stderr() -> Self {
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let draws = io::stderr().is_terminal() && !is_dumb;
        let target = if draws {
            ProgressDrawTarget::stderr_with_hz(FRAMES)
        } else {
            ProgressDrawTarget::hidden()
        };
        Self { bars: MultiProgress::with_draw_target(target), draws }
    }

    /// Whether bars can be drawn.
    pub(crate) fn draws(&self) -> bool {
        self.draws
    }

    /// The bars.
    pub(crate) fn bars(&self) -> &MultiProgress {
        &self.bars
    }

    /// Runs something that prints while the bars are out of the way.
    pub(crate) fn suspend<T>(&self, print: impl FnOnce() -> T) -> T {
        if self.draws { self.bars.suspend(print) } else { print() }
    }

    /// Prints a line of its own.
    pub(crate) fn line(&self, text: &str) {
        self.write(&format!("{}\n", printable(text)));
    }

    /// Prints `label: text`, the label in the style of its severity.
    pub(crate) fn labelled(&self, label: &str, style: anstyle::Style, text: &str) {
        self.write(&format!("{style}{label}{style:#}: {}\n", printable(text)));
    }

    /// Prints an error.
    pub(crate) fn error(&self, text: &str) {
        self.labelled("error", style::ERROR, text);
    }

    fn write(&self, text: &str) {
        // Nobody is left to be told that standard error is closed.
        let _ = self.suspend(|| anstream::stderr().write_all(text.as_bytes()));
    }
}

/// A text without control characters but line feeds: names of files and what servers send may
/// hold sequences that a terminal obeys.
pub(crate) fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() && character != '\n' {
            // Writing to a String does not fail.
            let _ = write!(printable, "{}", character.escape_default());
        } else {
            printable.push(character);
        }
    }
    printable
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_shown_not_sent() {
        assert_eq!(printable("a\x1b[2Jb\nc\r\u{9b}"), "a\\u{1b}[2Jb\nc\\r\\u{9b}");
    }
}
