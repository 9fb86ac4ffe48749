//! What the user sees of a fetch while it runs: bars on a terminal, plain lines elsewhere.

mod bars;
mod lines;
mod tally;

use smolvm::{AssetKind, Event};

use crate::terminal::Terminal;
use bars::ImageBars;
use lines::ImageLines;

pub(crate) use tally::{AssetTally, Outcome, Tally};

/// How progress is shown.
#[derive(Debug, Clone)]
pub(crate) enum Progress {
    Hidden,
    Bars(Terminal),
    Lines(Terminal),
}

/// The progress of one image.
#[derive(Debug)]
pub(crate) enum Watch {
    Hidden,
    Bars(ImageBars),
    Lines(ImageLines),
}

impl Progress {
    /// Starts to show the progress of an image.
    pub(crate) fn watch(&self, image: &str) -> Watch {
        match self {
            Self::Hidden => Watch::Hidden,
            Self::Bars(terminal) => Watch::Bars(ImageBars::new(terminal, image)),
            Self::Lines(terminal) => Watch::Lines(ImageLines::new(terminal, image)),
        }
    }
}

impl Watch {
    /// Shows one event of one of the image's assets.
    pub(crate) fn event(&self, kind: AssetKind, event: &Event) {
        match self {
            Self::Hidden => {}
            Self::Bars(bars) => bars.event(kind, event),
            Self::Lines(lines) => lines.event(kind, event),
        }
    }

    /// Takes away what stands on the terminal for a while only.
    pub(crate) fn finish(&self) {
        if let Self::Bars(bars) = self {
            bars.clear();
        }
    }
}
