//! The archive format of an initial RAM disk, "newc" (`newc` in cpio(5), and
//! "initramfs buffer format" in the kernel's documentation).

use std::collections::BTreeSet;

use super::SOURCE_DATE_EPOCH;

/// An archive in memory. The same calls make the same bytes: inode numbers
/// count up, the owner is root and every time stamp is the same.
pub(super) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
    directories: BTreeSet<String>,
}

/// The type bits of a mode.
const DIRECTORY: u32 = 0o040_000;
const CHARACTER_DEVICE: u32 = 0o020_000;
const REGULAR: u32 = 0o100_000;

impl Archive {
    pub(super) fn new() -> Self {
        Self { bytes: Vec::new(), entries: 0, directories: BTreeSet::new() }
    }

    pub(super) fn directory(&mut self, path: &str) {
        self.parents(path);
        if self.directories.insert(path.to_owned()) {
            self.entry(path, DIRECTORY | 0o755, (0, 0), &[]);
        }
    }

    pub(super) fn character_device(&mut self, path: &str, major: u32, minor: u32) {
        self.parents(path);
        self.entry(path, CHARACTER_DEVICE | 0o600, (major, minor), &[]);
    }

    pub(super) fn file(&mut self, path: &str, permissions: u32, content: &[u8]) {
        self.parents(path);
        self.entry(path, REGULAR | permissions, (0, 0), content);
    }

    /// The kernel unpacks a file only into a directory that it has unpacked.
    fn parents(&mut self, path: &str) {
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.directory(parent);
        }
    }

    /// The archive with the entry that ends it.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, (major, minor): (u32, u32), content: &[u8]) {
        use std::io::Write as _;

        self.entries += 1;
        let inode = self.entries;
        let links = if mode & DIRECTORY == 0 { 1 } else { 2 };
        let (time, size, name_size) = (SOURCE_DATE_EPOCH, content.len(), path.len() + 1);
        // Writing to a vector cannot fail.
        let _ = write!(
            self.bytes,
            "070701{inode:08X}{mode:08X}{owner:08X}{owner:08X}{links:08X}{time:08X}{size:08X}\
             {none:08X}{none:08X}{major:08X}{minor:08X}{name_size:08X}{none:08X}{path}\0",
            owner = 0,
            none = 0,
        );
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    /// Names and contents start at multiples of four.
    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let mut archive = Archive::new();
        archive.character_device("dev/console", 5, 1);
        archive.file("init", 0o755, b"hello");
        archive.finish()
    }

    #[test]
    fn every_header_starts_at_a_multiple_of_four_and_has_thirteen_fields() {
        let bytes = sample();
        assert_eq!(bytes.len() % 4, 0);
        let starts: Vec<_> =
            (0..bytes.len() - 5).filter(|&at| bytes[at..].starts_with(b"070701")).collect();
        assert_eq!(starts.len(), 4);
        for at in starts {
            assert_eq!(at % 4, 0);
            assert!(bytes[at + 6..at + 110].iter().all(u8::is_ascii_hexdigit));
        }
    }

    #[test]
    fn directories_come_once_and_before_what_is_in_them() {
        let mut archive = Archive::new();
        archive.file("a/b/one", 0o644, b"");
        archive.directory("a");
        archive.file("a/b/two", 0o644, b"");
        let bytes = archive.finish();
        let at = |name: &str| -> Vec<_> {
            let name = [name.as_bytes(), b"\0"].concat();
            (110..bytes.len()).filter(|&at| bytes[at..].starts_with(&name)).collect()
        };
        // The name of an entry follows the 110 bytes of its header.
        let whole = |name: &str| -> Vec<_> {
            at(name).into_iter().filter(|at| bytes[at - 110..].starts_with(b"070701")).collect()
        };
        assert_eq!((whole("a").len(), whole("a/b").len()), (1, 1));
        assert!(whole("a") < whole("a/b") && whole("a/b") < whole("a/b/one"));
    }

    #[test]
    fn content_follows_its_name() {
        let bytes = sample();
        let at = bytes.windows(5).position(|window| window == b"init\0").unwrap();
        let content = (at + 5).next_multiple_of(4);
        assert_eq!(&bytes[content..content + 8], b"hello\0\0\0");
    }
}
