//! Tells file systems by their superblocks.

use std::io::{self, Read, Seek, SeekFrom};

/// A kind of file system that a root may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// ext2, ext3 or ext4: the driver of the last one mounts them all.
    Ext4,
    Xfs,
    Btrfs,
    F2fs,
    Squashfs,
    Erofs,
}

/// How large an ext4 file system is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ext4Size {
    pub(super) block_size: u64,
    pub(super) blocks: u64,
}

/// Where a kind has the bytes that tell it.
struct Magic {
    kind: Kind,
    offset: usize,
    bytes: &'static [u8],
}

/// Those in the first [`HEAD`] bytes.
const MAGICS: &[Magic] = &[
    Magic { kind: Kind::Ext4, offset: EXT4 + 0x38, bytes: &[0x53, 0xef] },
    Magic { kind: Kind::Xfs, offset: 0, bytes: b"XFSB" },
    Magic { kind: Kind::Squashfs, offset: 0, bytes: b"hsqs" },
    Magic { kind: Kind::Erofs, offset: 1024, bytes: &[0xe2, 0xe1, 0xf5, 0xe0] },
    Magic { kind: Kind::F2fs, offset: 1024, bytes: &[0x10, 0x20, 0xf5, 0xf2] },
];

/// The one that is further in, where the first bytes tell nothing.
const BTRFS: Magic = Magic { kind: Kind::Btrfs, offset: 0x1_0040, bytes: b"_BHRfS_M" };

/// How much is read at first.
const HEAD: usize = 4096;

/// Where ext4 has its superblock.
const EXT4: usize = 1024;

impl Kind {
    /// Its name in `/proc/filesystems`, and that of its driver's module.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
            Self::F2fs => "f2fs",
            Self::Squashfs => "squashfs",
            Self::Erofs => "erofs",
        }
    }

    /// Whether it can only be read, wherever it is.
    pub(super) fn is_read_only(self) -> bool {
        matches!(self, Self::Squashfs | Self::Erofs)
    }

    /// The kind of what is on `device`; `None` for anything else.
    pub(super) fn probe(device: &mut (impl Read + Seek)) -> io::Result<Option<Self>> {
        let head = read_at(device, 0, HEAD)?;
        let holds = |magic: &&Magic| {
            head.get(magic.offset..).is_some_and(|rest| rest.starts_with(magic.bytes))
        };
        if let Some(magic) = MAGICS.iter().find(holds) {
            return Ok(Some(magic.kind));
        }
        let further = read_at(device, BTRFS.offset as u64, BTRFS.bytes.len())?;
        Ok((further == BTRFS.bytes).then_some(BTRFS.kind))
    }
}

impl Ext4Size {
    /// Reads it from the superblock of the ext4 file system on `device`.
    pub(super) fn read(device: &mut (impl Read + Seek)) -> io::Result<Self> {
        /// What 64-bit file systems have set among the incompatible features.
        const WIDE: u32 = 0x80;
        let superblock = read_at(device, EXT4 as u64, 1024)?;
        let number = |offset: usize| {
            let bytes = superblock.get(offset..offset + 4).and_then(|bytes| bytes.try_into().ok());
            bytes.map(u32::from_le_bytes).ok_or(io::ErrorKind::UnexpectedEof)
        };
        let wide = number(0x60)? & WIDE != 0;
        let high = if wide { number(0x150)? } else { 0 };
        let shift = number(0x18)?;
        Ok(Self {
            block_size: 1024_u64.checked_shl(shift).ok_or(io::ErrorKind::InvalidData)?,
            blocks: u64::from(high) << 32 | u64::from(number(0x4)?),
        })
    }
}

/// Up to `length` bytes: fewer where the device ends.
fn read_at(device: &mut (impl Read + Seek), offset: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(length);
    device.seek(SeekFrom::Start(offset))?;
    device.take(length as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::process::Command;

    use super::*;

    /// A file that `mkfs` has made a file system in; `None`, with the reason printed, without it.
    fn made_by(mkfs: &str, arguments: &[&str], size: u64) -> Option<File> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk");
        let file = File::create_new(&path).unwrap();
        file.set_len(size).unwrap();
        let made = Command::new(mkfs).args(arguments).arg(&path).output();
        match made {
            Ok(output) => assert!(output.status.success(), "{output:?}"),
            Err(error) => {
                smolvm_testkit::skip(&format!("cannot run {mkfs}: {error}"));
                return None;
            }
        }
        Some(File::open(path).unwrap())
    }

    fn in_memory(at: usize, bytes: &[u8]) -> io::Cursor<Vec<u8>> {
        let mut disk = vec![0; 128 * 1024];
        disk[at..at + bytes.len()].copy_from_slice(bytes);
        io::Cursor::new(disk)
    }

    #[test]
    fn what_mkfs_makes_is_told_apart() {
        const MIB: u64 = 1 << 20;
        for (mkfs, arguments, size, kind) in [
            ("mkfs.ext2", ["-q", "-F"].as_slice(), 8 * MIB, Kind::Ext4),
            ("mkfs.ext4", &["-q", "-F"], 8 * MIB, Kind::Ext4),
            ("mkfs.xfs", &["-q"], 512 * MIB, Kind::Xfs),
            ("mkfs.btrfs", &["-q"], 128 * MIB, Kind::Btrfs),
        ] {
            if let Some(mut file) = made_by(mkfs, arguments, size) {
                assert_eq!(Kind::probe(&mut file).unwrap(), Some(kind), "{mkfs}");
            }
        }
    }

    #[test]
    fn images_that_are_only_read_are_known_by_their_magic_numbers() {
        let squashfs = Kind::probe(&mut in_memory(0, b"hsqs")).unwrap().unwrap();
        let erofs = Kind::probe(&mut in_memory(1024, &0xe0f5_e1e2_u32.to_le_bytes()));
        let erofs = erofs.unwrap().unwrap();
        assert_eq!((squashfs, erofs), (Kind::Squashfs, Kind::Erofs));
        assert!(squashfs.is_read_only() && erofs.is_read_only());
        assert!(!Kind::Ext4.is_read_only());
    }

    #[test]
    fn nothing_is_known_of_noise_and_of_a_disk_that_ends_early() {
        assert_eq!(Kind::probe(&mut in_memory(512, b"\x55\xaa")).unwrap(), None);
        assert_eq!(Kind::probe(&mut io::Cursor::new(b"XFS")).unwrap(), None);
        assert!(Ext4Size::read(&mut io::Cursor::new([0; 1100])).is_err());
    }

    #[test]
    fn the_size_of_an_ext4_file_system_is_read_from_its_superblock() {
        let sizes = [("1024", "4M"), ("4096", "24M")];
        for (block_size, size) in sizes {
            let arguments = ["-q", "-F", "-b", block_size];
            let Some(mut file) = made_by("mkfs.ext4", &arguments, 24 << 20) else { return };
            let read = Ext4Size::read(&mut file).unwrap();
            assert_eq!(read.block_size.to_string(), block_size, "{size}");
            assert_eq!(read.block_size * read.blocks, 24 << 20);
        }
    }
}
