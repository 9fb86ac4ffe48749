//! The end of what a guest's console said, fit to be shown to people.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

/// The lines that an error shows.
const LINES: usize = 20;

/// The bytes that are looked at for them.
const BYTES: u64 = 16 * 1024;

/// What the agent says when it cannot go on; the reason follows.
const FATAL: &str = "smolvm-agent: fatal: ";

/// What Linux says when it cannot go on.
const PANIC: &str = "Kernel panic - not syncing: ";

/// The whole log as it is kept: what the newest file holds, after what the one before it held.
pub(crate) fn whole(path: &Path) -> Vec<u8> {
    let mut log = fs_err::read(path.with_extension("log.1")).unwrap_or_default();
    log.extend(fs_err::read(path).unwrap_or_default());
    log
}

/// The last lines of the log, without what would move a terminal's cursor.
pub(crate) fn tail(path: &Path) -> String {
    let text = String::from_utf8_lossy(&last_bytes(path).unwrap_or_default()).into_owned();
    let lines: Vec<String> =
        text.lines().map(printable).filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

/// Why the guest ended, as far as its console tells.
pub(crate) fn reason(tail: &str) -> Option<String> {
    let after = |mark: &str| {
        let line = tail.lines().rev().find(|line| line.contains(mark))?;
        Some(line.split_once(mark)?.1.trim().to_owned())
    };
    after(FATAL)
        .or_else(|| after(PANIC).map(|panic| format!("the guest's kernel panicked: {panic}")))
}

/// Whether a reason is that the guest found no disk or no bus: on another kind of machine it may
/// find them. The words are those of the agent (`smolvm-agent`, `boot::error`).
pub(crate) fn finds_no_devices(reason: &str) -> bool {
    reason.starts_with("no driver for") || reason.starts_with("the machine has no disk")
}

fn last_bytes(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut file = fs_err::File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(BYTES)))?;
    let mut bytes = Vec::new();
    file.take(BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A line without control characters and escape sequences.
fn printable(line: &str) -> String {
    let mut printable = String::new();
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        if character == '\u{1b}' {
            // A control sequence ends with a letter or `~` (ECMA-48, 5.4).
            if characters.next() == Some('[') {
                characters.by_ref().find(|end| end.is_ascii_alphabetic() || *end == '~');
            }
        } else if !character.is_control() || character == '\t' {
            printable.push(character);
        }
    }
    printable
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_short_and_harmless() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("console.log");
        let lines: Vec<_> =
            (0..5000).map(|line| format!("\u{1b}[1;31mline {line}\u{1b}[0m\u{7}\r\n")).collect();
        fs_err::write(&path, lines.concat()).unwrap();
        let tail = tail(&path);
        assert_eq!(tail.lines().count(), LINES);
        assert_eq!(tail.lines().last(), Some("line 4999"));
        assert!(!tail.contains(|c: char| c.is_control() && c != '\n'));
    }

    #[test]
    fn the_reason_is_found() {
        let tail = "[    1.0] Kernel panic - not syncing: VFS: no root\n[    1.1] CPU: 0";
        assert_eq!(reason(tail).unwrap(), "the guest's kernel panicked: VFS: no root");
        let tail = "smolvm-agent: fatal: no driver virtio_blk\nreboot: Restarting system";
        assert_eq!(reason(tail).unwrap(), "no driver virtio_blk");
        assert_eq!(reason("all is well"), None);
    }
}
