//! Writes the archive format of an initrd, cpio's "newc"
//! (`Documentation/driver-api/early-userspace/buffer-format.rst`).

use std::io::{self, Write};

/// An archive that is written as it is filled. The same calls write the same bytes: inode numbers
/// count up, the owner is root and every time stamp is 0.
///
/// Paths are relative to the root and have no leading slash. The kernel makes no directories by
/// itself: each comes before what lies in it.
#[derive(Debug)]
pub(super) struct Archive<W> {
    output: W,
    /// How many bytes were written.
    offset: usize,
    entries: u32,
}

/// The type bits of a mode.
const DIRECTORY: u32 = 0o040_000;
const CHARACTER_DEVICE: u32 = 0o020_000;
const REGULAR: u32 = 0o100_000;

/// The name that ends an archive.
const TRAILER: &str = "TRAILER!!!";

impl<W: Write> Archive<W> {
    /// An archive that begins where `output` stands, which must be a multiple of four bytes behind
    /// the start of the initrd.
    pub(super) fn new(output: W) -> Self {
        Self { output, offset: 0, entries: 0 }
    }

    pub(super) fn directory(&mut self, path: &str) -> io::Result<()> {
        self.entry(path, DIRECTORY | 0o755, (0, 0), &[])
    }

    pub(super) fn file(&mut self, path: &str, permissions: u32, content: &[u8]) -> io::Result<()> {
        self.entry(path, REGULAR | permissions, (0, 0), content)
    }

    /// A character device by its major and minor number.
    pub(super) fn character_device(
        &mut self,
        path: &str,
        permissions: u32,
        number: (u32, u32),
    ) -> io::Result<()> {
        self.entry(path, CHARACTER_DEVICE | permissions, number, &[])
    }

    /// Ends the archive and gives back what it was written to.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.entry(TRAILER, 0, (0, 0), &[])?;
        Ok(self.output)
    }

    fn entry(
        &mut self,
        path: &str,
        mode: u32,
        (major, minor): (u32, u32),
        content: &[u8],
    ) -> io::Result<()> {
        if path.contains('\0') {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a path has a NUL in it"));
        }
        let size = u32::try_from(content.len()).map_err(|_| {
            io::Error::new(io::ErrorKind::FileTooLarge, "an initrd holds no file of 4 GiB")
        })?;
        self.entries += 1;
        let inode = self.entries;
        let links = if mode & DIRECTORY == 0 { 1 } else { 2 };
        let name_size = path.len() + 1;
        let header = format!(
            "070701{inode:08X}{mode:08X}{owner:08X}{owner:08X}{links:08X}{time:08X}{size:08X}\
             {none:08X}{none:08X}{major:08X}{minor:08X}{name_size:08X}{none:08X}{path}\0",
            owner = 0,
            time = 0,
            none = 0,
        );
        self.write_padded(header.as_bytes())?;
        self.write_padded(content)
    }

    /// Names and contents start at multiples of four.
    fn write_padded(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.output.write_all(bytes)?;
        let end = self.offset + bytes.len();
        self.offset = end.next_multiple_of(4);
        self.output.write_all(&[0; 3][..self.offset - end])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let mut archive = Archive::new(Vec::new());
        archive.directory("dev").unwrap();
        archive.character_device("dev/console", 0o600, (5, 1)).unwrap();
        archive.file("init", 0o755, b"hello").unwrap();
        archive.finish().unwrap()
    }

    #[test]
    fn every_header_starts_at_a_multiple_of_four_and_has_thirteen_fields() {
        let bytes = sample();
        assert_eq!(bytes.len() % 4, 0);
        let starts: Vec<_> = memchr::memmem::find_iter(&bytes, b"070701").collect();
        assert_eq!(starts.len(), 4);
        for at in starts {
            assert_eq!(at % 4, 0);
            assert!(bytes[at + 6..at + 110].iter().all(u8::is_ascii_hexdigit));
        }
    }

    #[test]
    fn the_same_calls_write_the_same_bytes() {
        assert_eq!(sample(), sample());
    }

    #[test]
    fn a_path_that_would_be_cut_short_is_refused() {
        let mut archive = Archive::new(Vec::new());
        assert!(archive.file("a\0b", 0o644, b"").is_err());
    }
}
