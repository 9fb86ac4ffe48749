//! Lines for people on the guest's console, and the end of a guest that does not boot.

use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};

use crate::sys::reboot;

/// Writes `smolvm-agent: <message>`, as one line.
pub(crate) fn note(message: impl Display) {
    write(&line(&message.to_string()));
}

/// Writes `smolvm-agent: fatal: <message>`, as one line, and resets the machine.
pub(crate) fn fatal(message: impl Display) -> ! {
    let console = write(&line(&format!("fatal: {message}")));
    // What is still on its way to the host would be lost.
    if let Some(console) = console {
        let _ = reboot::drain(&console);
    }
    reboot::sync();
    write(&line(&format!("cannot reset the machine: {}", reboot::reset())));
    // The kernel ends the machine when its first process ends.
    std::process::exit(1)
}

/// The console is opened each time: the image's init may hang the old one up.
fn write(line: &str) -> Option<File> {
    let console = OpenOptions::new().write(true).open("/dev/console");
    // There is nobody to tell that nobody can be told.
    if let Ok(mut console) = console
        && console.write_all(line.as_bytes()).is_ok()
    {
        return Some(console);
    }
    let _ = io::stderr().write_all(line.as_bytes());
    None
}

/// Messages may hold what the disk says, which may be anything.
fn line(message: &str) -> String {
    let message = message.replace(|character: char| character.is_control(), " ");
    format!("smolvm-agent: {message}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_of_several_lines_is_one() {
        assert_eq!(line("no disk\r\n\x1b[31mhere"), "smolvm-agent: no disk   [31mhere\n");
    }
}
