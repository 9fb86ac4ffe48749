//! Initial RAM disks for the tests: the archive format "newc" (cpio(5)), with what the host puts
//! beside the agent.

use std::io::Write as _;

const DIRECTORY: u32 = 0o040_755;
const CHARACTER_DEVICE: u32 = 0o020_600;
const PROGRAM: u32 = 0o100_755;
const FILE: u32 = 0o100_644;

/// An initial RAM disk with the agent and its configuration, to be put after the image's own.
pub(crate) fn with_agent(config: &str) -> Vec<u8> {
    let mut archive = Archive(Vec::new());
    archive.entry("dev", DIRECTORY, (0, 0), b"");
    archive.entry("dev/console", CHARACTER_DEVICE, (5, 1), b"");
    archive.entry("dev/null", CHARACTER_DEVICE, (1, 3), b"");
    archive.entry("smolvm", DIRECTORY, (0, 0), b"");
    archive.entry("smolvm/agent", PROGRAM, (0, 0), smolvm_agent::PROGRAM);
    archive.entry("smolvm/boot", FILE, (0, 0), config.as_bytes());
    archive.entry("TRAILER!!!", 0, (0, 0), b"");
    archive.0
}

struct Archive(Vec<u8>);

impl Archive {
    fn entry(&mut self, path: &str, mode: u32, (major, minor): (u32, u32), content: &[u8]) {
        let (inode, links, size, name) = (0, 1, content.len(), path.len() + 1);
        write!(
            self.0,
            "070701{inode:08X}{mode:08X}{0:08X}{0:08X}{links:08X}{0:08X}{size:08X}{0:08X}{0:08X}\
             {major:08X}{minor:08X}{name:08X}{0:08X}{path}\0",
            0
        )
        .unwrap();
        self.pad();
        self.0.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }
}
