//! What is said to the person at the terminal: headings, commands, times and
//! errors. Colours are left out when `NO_COLOR` is set or nobody looks.

use std::time::Duration;

use anstream::{eprintln, println};
use anstyle::{AnsiColor, Style};

const HEADING: Style = AnsiColor::Cyan.on_default().bold();
const COMMAND: Style = Style::new().bold();
const GREETING: Style = AnsiColor::Green.on_default().bold();
const ERROR: Style = AnsiColor::Red.on_default().bold();

/// Announces a step.
pub(crate) fn heading(text: &str) {
    println!("\n{HEADING}==> {text}{HEADING:#}");
}

/// Shows a command line that is about to run.
pub(crate) fn command(line: &str) {
    println!("{COMMAND}$ {line}{COMMAND:#}");
}

/// A plain line about what was found or done.
pub(crate) fn note(text: &str) {
    println!("    {text}");
}

/// Text that somebody may want to use, as it is.
pub(crate) fn plain(text: &str) {
    println!("{text}");
}

/// The line that the guest printed.
pub(crate) fn greeting(text: &str) {
    println!("\n    {GREETING}{text}{GREETING:#}\n");
}

/// Steps with the time that each took, in the order they ran.
pub(crate) fn times<'a>(steps: impl IntoIterator<Item = (&'a str, Duration)>) {
    for (name, took) in steps {
        println!("    {name:<28} {:>7.1} s", took.as_secs_f64());
    }
}

/// A failure with its chain of causes.
pub(crate) fn error(error: &anyhow::Error) {
    eprintln!("{ERROR}error:{ERROR:#} {error:#}");
}
